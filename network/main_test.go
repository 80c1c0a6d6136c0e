//go:build linux

package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/berth-containers/berth/linux/nft"
)

// All tests of this package run in a "host" of their own: the test program starts itself again in new network and mount
// namespaces, so that nothing here can touch the machine's own network.
func TestMain(m *testing.M) {
	if os.Getenv("BERTH_NETWORK_TEST") != "" {
		if err := linkUp("lo"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		fmt.Println("network tests need root")
		os.Exit(1)
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), "BERTH_NETWORK_TEST=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := c.Run(); err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			os.Exit(max(1, ee.ExitCode()))
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// lab is a store, and containers in it, for one test.
type lab struct {
	*testing.T
	*Store
}

func newLab(t *testing.T) *lab {
	dir := t.TempDir()
	l := &lab{t, Open(filepath.Join(dir, "root"), filepath.Join(dir, "state"))}
	t.Cleanup(func() {
		all, _ := l.List()
		for _, n := range all {
			if br, err := netlink.LinkByName(n.Bridge); err == nil {
				l.closeFirewall(n)
				_ = netlink.LinkDel(br)
			}
		}
	})
	return l
}

func (l *lab) network(n Network) *Network {
	l.Helper()
	made, err := l.Create(n)
	if err != nil {
		l.Fatal(err)
	}
	return made
}

var serial atomic.Int32

// host is something with a network stack: a container, or a neighbour in the LAN.
type host struct {
	t  *testing.T
	ns *os.File
	id string
	*Attachment
}

func (l *lab) namespace() *host {
	l.Helper()
	id := fmt.Sprintf("%08x", serial.Add(1))
	path := filepath.Join(l.TempDir(), "ns")
	ns, err := NewNamespace(path)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() {
		ns.Close()
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
			l.Error(err)
		}
	})
	if err := os.MkdirAll(filepath.Join(l.state, "containers", id), 0o700); err != nil {
		l.Fatal(err)
	}
	return &host{t: l.T, ns: ns, id: id}
}

// container attaches a new namespace to networks.
func (l *lab) container(requests ...Request) *host {
	l.Helper()
	h := l.namespace()
	for i := range requests {
		requests[i].Container, requests[i].Name = h.id, "c"+h.id
	}
	a, err := l.Attach(h.ns, requests)
	if err != nil {
		l.Fatal(err)
	}
	h.Attachment = a
	l.Cleanup(func() { l.end(h) })
	return h
}

// end does what a monitor does when a container has ended.
func (l *lab) end(h *host) {
	for _, f := range h.Held {
		f.Close()
	}
	for _, e := range h.Endpoints {
		l.must(nft.SendEach(e.Undo.Batches))
		for _, f := range e.Undo.Files {
			_ = os.Remove(f)
		}
	}
	for _, e := range h.Endpoints {
		unplug(e.HostInterface)
	}
	_ = os.Remove(filepath.Join(l.state, "containers", h.id))
}

// neighbour is a host in a LAN with this one: 192.0.2.1 here, 192.0.2.2 there.
func (l *lab) neighbour() *host {
	l.Helper()
	h := l.namespace()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink0"
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(h.ns.Fd()))}
	l.must(netlink.LinkAdd(pair))
	l.Cleanup(func() { unplug("uplink0") })
	up := func(name, addr string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link))
	}
	l.must(up("uplink0", "192.0.2.1/24"))
	l.must(inside(h.ns, func() error { return up("eth0", "192.0.2.2/24") }))
	return h
}

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (h *host) addr() netip.Addr { return h.Endpoints[0].Address.Addr() }

// do runs fn in the host's namespace; a nil host is the one where the engine runs.
func (h *host) do(fn func() error) error {
	if h == nil {
		return fn()
	}
	return inside(h.ns, fn)
}

// serve answers each connection with the client's address.
func (h *host) serve(t *testing.T, at string) {
	t.Helper()
	var ln net.Listener
	err := h.do(func() (err error) {
		ln, err = net.Listen("tcp", at)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			from, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			_, _ = io.WriteString(c, from)
			c.Close()
		}
	}()
}

// ask connects and returns what serve says, or an error. How long it waits decides only how long a refusal takes.
func (h *host) ask(to string, from ...string) (answer string, err error) {
	err = h.do(func() error {
		d := net.Dialer{Timeout: 700 * time.Millisecond}
		if len(from) > 0 {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from[0])}
		}
		c, err := d.Dial("tcp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		b, err := io.ReadAll(c)
		answer = string(b)
		return err
	})
	return answer, err
}

func reaches(t *testing.T, who string, h *host, to, seenAs string) {
	t.Helper()
	var got string
	var err error
	for range 5 { // a busy machine may drop one
		if got, err = h.ask(to); err == nil {
			break
		}
	}
	if err != nil || seenAs != "" && got != seenAs {
		t.Errorf("%s to %s: seen as %q, %v; want it to arrive as %q", who, to, got, err, seenAs)
	}
}

func refused(t *testing.T, who string, h *host, to string, from ...string) {
	t.Helper()
	if got, err := h.ask(to, from...); err == nil {
		t.Errorf("%s reaches %s (as %s)", who, to, got)
	}
}

func nftList(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("nft", "list", "table", "inet", tableName).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "No such file") {
		t.Fatalf("nft: %v: %s", err, out)
	}
	return string(out)
}
