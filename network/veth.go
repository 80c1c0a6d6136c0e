//go:build linux

package network

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// NewNamespace makes a network namespace that lives without a process: it is bind-mounted on path. Its loopback is up.
// The caller closes the file, and unmounts and removes path when the namespace shall go.
func NewNamespace(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, errs.Wrap("make network namespace", err)
	}
	f.Close()
	var ns *os.File
	err = onThread(func() error {
		err := trace.Step("unshare", "a network stack of its own: links, addresses, routes, firewall, ports", "flags", "CLONE_NEWNET").
			Do(func() error { return unix.Unshare(unix.CLONE_NEWNET) })
		if err != nil {
			return errs.Wrap("unshare network namespace", err)
		}
		err = trace.Step("mount", "the bind mount keeps the namespace while no process is in it", "bind", "/proc/thread-self/ns/net", "target", path).
			Do(func() error { return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "") })
		if err != nil {
			return errs.Wrap("mount network namespace on "+path, err)
		}
		if ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return errs.Wrap("open network namespace", err)
		}
		return linkUp("lo")
	})
	if err != nil {
		_ = unix.Unmount(path, unix.MNT_DETACH)
		_ = os.Remove(path)
		return nil, err
	}
	return ns, nil
}

// onThread runs fn on a thread of its own that ends with it, so that a namespace it enters is nobody else's.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		done <- fn()
	}()
	return <-done
}

// inside runs fn in a network namespace.
func inside(ns *os.File, fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return errs.Wrap("enter network namespace", err)
		}
		return fn()
	})
}

// linkUp sets a link of the calling thread's namespace up by ioctl, for which no netlink socket is needed.
func linkUp(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap("open socket", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	err = trace.Step("link set up", "127.0.0.1 answers", "dev", name).
		Do(func() error { return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr) })
	return errs.Wrap("set "+name+" up", err)
}

// plug makes the veth pair of an endpoint: its outer end a port of the bridge, its inner end in the namespace, with
// address, routes and sysctls.
func plug(e *Endpoint, n *Network, bridge netlink.Link, ns *os.File) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = e.HostInterface, n.MTU, bridge.Attrs().Index
	attrs.Flags = net.FlagUp
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return errs.New(errs.Invalid, "invalid MAC address "+e.MAC, nil)
	}
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: e.Interface, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(int(ns.Fd())), PeerMTU: uint32(n.MTU)}
	err = trace.Step("link add veth", "a cable: one end on the bridge, the other in the container", "dev", e.HostInterface,
		"master", n.Bridge, "peer", e.Interface, "mac", e.MAC).Do(func() error { return addPair(pair) })
	if err != nil {
		return errs.Wrap("make veth "+e.HostInterface, err)
	}
	if len(e.Ports) > 0 {
		err := trace.Step("bridge link set hairpin", "the container reaches itself through its published port", "dev", e.HostInterface).
			Do(func() error { return netlink.LinkSetHairpin(pair, true) })
		if err != nil {
			return errs.Wrap("set hairpin on "+e.HostInterface, err)
		}
	}
	return inside(ns, func() error { return e.configure(n) })
}

// addPair makes a pair. Who has its name already is, as a rule, the end of the container's last life: the kernel takes
// its namespace down in its own time, some milliseconds after the last process is gone.
func addPair(pair *netlink.Veth) error {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		err := netlink.LinkAdd(pair)
		if !errors.Is(err, unix.EEXIST) || time.Now().After(end) {
			return err
		}
	}
}

// configure sets up the inner end; it runs in the container's namespace, before any program of the container does.
func (e *Endpoint) configure(n *Network) error {
	v6 := "1"
	if e.Address6.IsValid() {
		v6 = "0"
	}
	for _, s := range []struct{ name, value, why string }{
		{"ipv6/conf/" + e.Interface + "/accept_ra", "0", "no neighbour may become the container's router (CVE-2020-13401)"},
		{"ipv6/conf/" + e.Interface + "/disable_ipv6", v6, "IPv6 only where it was asked for (CVE-2024-32473)"},
	} {
		if err := setSysctl(s.name, s.value, s.why); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for name, value := range e.sysctls {
		path := strings.ReplaceAll(strings.TrimPrefix(name, "net."), ".", "/")
		path = strings.ReplaceAll(path, "IFNAME", e.Interface)
		if err := setSysctl(path, value, "asked for by --network driver-opt"); err != nil {
			return err
		}
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return errs.Wrap("open netlink socket", err)
	}
	defer h.Close()
	l, err := h.LinkByName(e.Interface)
	if err != nil {
		return errs.Wrap("find "+e.Interface, err)
	}
	for _, p := range []netip.Prefix{e.Address, e.Address6} {
		if !p.IsValid() {
			continue
		}
		err := trace.Step("addr add", "the container's address", "addr", p, "dev", e.Interface).
			Do(func() error { return h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD}) })
		if err != nil {
			return errs.Wrap(fmt.Sprintf("set address %s on %s", p, e.Interface), err)
		}
	}
	for _, a := range e.LinkLocal {
		bits := map[bool]int{true: 16, false: 64}[a.Is4()]
		err := trace.Step("addr add", "an address for neighbours alone", "addr", a, "dev", e.Interface).
			Do(func() error {
				return h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, bits)), Flags: unix.IFA_F_NODAD, Scope: unix.RT_SCOPE_LINK})
			})
		if err != nil {
			return errs.Wrap(fmt.Sprintf("set address %s on %s", a, e.Interface), err)
		}
	}
	if err := linkUp(e.Interface); err != nil {
		return err
	}
	if n.Internal {
		return nil
	}
	for _, gw := range []netip.Addr{e.Gateway, e.Gateway6} {
		if !gw.IsValid() {
			continue
		}
		err := trace.Step("route add default", "everything else is reached through the bridge", "via", gw, "dev", e.Interface, "metric", e.Metric).
			Do(func() error {
				return h.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gw.AsSlice(), Priority: e.Metric})
			})
		if err != nil {
			return errs.Wrap("add default route via "+gw.String(), err)
		}
	}
	return nil
}

// demote lets the default routes of the calling thread's namespace wait behind a better one.
func demote(there []Endpoint) error {
	for _, e := range there {
		if e.Metric != bestMetric {
			continue
		}
		l, err := netlink.LinkByName(e.Interface)
		if err != nil {
			continue
		}
		for _, gw := range []netip.Addr{e.Gateway, e.Gateway6} {
			if !gw.IsValid() {
				continue
			}
			old := netlink.Route{LinkIndex: l.Attrs().Index, Gw: gw.AsSlice()}
			behind := old
			behind.Priority = otherMetric
			err := trace.Step("route replace default", "another network has a higher priority", "via", gw, "metric", otherMetric).
				Do(func() error {
					if netlink.RouteDel(&old) != nil {
						return nil // an internal network has none
					}
					return netlink.RouteAdd(&behind)
				})
			if err != nil && err != unix.EEXIST {
				return errs.Wrap("move default route via "+gw.String(), err)
			}
		}
	}
	return nil
}

// checkInterface refuses names that the kernel refuses, and those that would lead a path of sysctls elsewhere.
func checkInterface(name string) error {
	if name == "" || len(name) > 15 || name == "." || name == ".." || name == "lo" || name == "all" || name == "default" || strings.ContainsAny(name, "/ \t\n:%") {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid interface name %q: at most 15 characters, no space, slash, colon or percent sign", name))
	}
	return nil
}

// randomMAC is a locally administered unicast address.
func randomMAC() net.HardwareAddr {
	b := make([]byte, 6)
	_, _ = rand.Read(b)
	b[0] = b[0]&0xfe | 0x02
	return b
}
