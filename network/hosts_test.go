//go:build linux

package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// farHost is a host with an engine of its own, in a LAN with others.
type farHost struct {
	*host
	l *lab
}

// lan makes hosts 192.0.2.11 and on, joined by a switch in the test's namespace.
func (l *lab) lan(hosts int) (out []*farHost) {
	l.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "switch0"
	l.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	l.Cleanup(func() { unplug("switch0") })
	(*host)(nil).run(l.T, "ip link set switch0 up")
	for i := range hosts {
		h := l.namespace()
		name := fmt.Sprintf("port%d", i)
		at := netlink.NewLinkAttrs()
		at.Name = name
		l.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(h.ns.Fd()))}))
		l.Cleanup(func() { unplug(name) })
		(*host)(nil).run(l.T, "ip link set "+name+" up master switch0")
		h.run(l.T, fmt.Sprintf("ip addr add 192.0.2.%d/24 dev eth0; ip link set eth0 up", 11+i))
		dir := l.TempDir()
		out = append(out, &farHost{h, &lab{l.T, Open(filepath.Join(dir, "root"), filepath.Join(dir, "state"))}})
	}
	return out
}

// overlay makes the network of a test on a host.
func (h *farHost) overlay(options map[string]string) (n *Network) {
	h.l.Helper()
	h.l.must(h.do(func() (err error) {
		n, err = h.l.Create(Network{Name: "blue", Driver: DriverOverlay, Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.60.0.0/16")}}, Options: options})
		return err
	}))
	return n
}

// start attaches a container on a host.
func (h *farHost) start() *host {
	h.l.Helper()
	c := h.l.namespace()
	h.l.must(h.do(func() (err error) {
		c.Attachment, err = h.l.Attach(c.ns, []Request{{Network: "blue", Container: c.id, Name: "c" + c.id}})
		return err
	}))
	return c
}

// datagram sends one of so many bytes, which must not be divided, and waits for it on the other side.
func (h *host) datagram(to *host, size int) error {
	var in *net.UDPConn
	err := to.do(func() (err error) {
		in, err = net.ListenUDP("udp4", &net.UDPAddr{IP: to.addr().AsSlice(), Port: 9000})
		return err
	})
	if err != nil {
		return err
	}
	defer in.Close()
	err = h.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO); err != nil {
			return err
		}
		return unix.Sendto(fd, make([]byte, size), 0, &unix.SockaddrInet4{Port: 9000, Addr: to.addr().As4()})
	})
	if err != nil {
		return err
	}
	_ = in.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := in.Read(make([]byte, 2*size))
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes of %d arrived", n, size)
	}
	return err
}

func TestOverlayOfThreeHosts(t *testing.T) {
	l := newLab(t)
	hosts := l.lan(3)
	file := filepath.Join(t.TempDir(), "peers")
	list := func(n int) {
		text := "# the hosts of blue\n"
		for i := range n {
			text += fmt.Sprintf("192.0.2.%d\n", 11+i)
		}
		l.must(os.WriteFile(file, []byte(text), 0o600))
	}
	list(2)
	options := map[string]string{optPeersFile: file}
	a, b := hosts[0], hosts[1]
	if n := a.overlay(options); n.MTU != 1450 || n.Subnets[0].IPRange.String() != "10.60.0.0/20" || n.Subnets[0].Gateway.String() != "10.60.0.1" {
		t.Errorf("first host: MTU %d, %+v", n.MTU, n.Subnets)
	}
	if n := b.overlay(options); n.Subnets[0].IPRange.String() != "10.60.16.0/20" || n.Subnets[0].Gateway.String() != "10.60.16.0" {
		t.Errorf("second host: %+v", n.Subnets)
	}
	ca, cb := a.start(), b.start()
	if p := fmt.Sprint(ca.Endpoints[0].Peers, cb.Endpoints[0].Peers); p != "[10.60.16.0] [10.60.0.1]" {
		t.Errorf("where the other host can be asked for names: %s", p)
	}
	ca.serve(t, ":80")
	cb.serve(t, ":80")
	reaches(t, "b to a", cb, ca.addr().String()+":80", cb.addr().String())
	reaches(t, "a to b", ca, cb.addr().String()+":80", ca.addr().String())
	if err := ca.datagram(cb, 1422); err != nil { // 1450 with the headers of IP and UDP
		t.Errorf("a datagram that fits: %v", err)
	}
	if err := ca.datagram(cb, 1423); err != unix.EMSGSIZE {
		t.Errorf("a datagram that does not fit: %v", err)
	}

	// A host goes, and comes back.
	(*host)(nil).run(t, "ip link set port1 down")
	refused(t, "a to a host that is gone", ca, cb.addr().String()+":80")
	(*host)(nil).run(t, "ip link set port1 up")
	reaches(t, "a to b, which is back", ca, cb.addr().String()+":80", "")

	// A third one joins: the others hear of it when they start a container.
	list(3)
	hosts[2].overlay(options)
	cc := hosts[2].start()
	cc.serve(t, ":80")
	ca2, _ := a.start(), b.start()
	reaches(t, "a to c", ca2, cc.addr().String()+":80", ca2.addr().String())
	reaches(t, "c to b", cc, cb.addr().String()+":80", cc.addr().String())

	// Who is in no list is not listened to.
	(*host)(nil).run(t, "ip addr add 192.0.2.99/24 dev switch0")
	before := a.run(t, "nft list table inet "+tableName)
	if !strings.Contains(before, "192.0.2.13") || strings.Contains(before, "192.0.2.99") {
		t.Errorf("peers of the first host:\n%s", before)
	}
}

func TestOverlayBadInput(t *testing.T) {
	l := newLab(t)
	h := l.lan(1)[0]
	sub := func(s string) []Subnet { return []Subnet{{Subnet: netip.MustParsePrefix(s)}} }
	for what, n := range map[string]Network{
		"no peers":            {Subnets: sub("10.60.0.0/16")},
		"no subnet":           {Options: map[string]string{optPeers: "192.0.2.11"}},
		"not this host":       {Subnets: sub("10.60.0.0/16"), Options: map[string]string{optPeers: "192.0.2.77"}},
		"a peer twice":        {Subnets: sub("10.60.0.0/16"), Options: map[string]string{optPeers: "192.0.2.11,192.0.2.11"}},
		"no address":          {Subnets: sub("10.60.0.0/16"), Options: map[string]string{optPeers: "192.0.2.11,x"}},
		"a missing file":      {Subnets: sub("10.60.0.0/16"), Options: map[string]string{optPeersFile: "/nonexistent"}},
		"a vni too large":     {Subnets: sub("10.60.0.0/16"), Options: map[string]string{optPeers: "192.0.2.11", optVNI: "16777216"}},
		"an MTU too large":    {MTU: 1500, Subnets: sub("10.60.0.0/16"), Options: map[string]string{optPeers: "192.0.2.11,192.0.2.12"}},
		"a subnet too small":  {Subnets: sub("10.60.0.0/28"), Options: map[string]string{optPeers: "192.0.2.11"}},
		"an unreachable peer": {Subnets: sub("10.60.0.0/16"), Options: map[string]string{optPeers: "192.0.2.11,203.0.113.1"}},
	} {
		n.Name, n.Driver = "blue", DriverOverlay
		err := h.do(func() error {
			_, err := h.l.Create(n)
			return err
		})
		if !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if all, _ := h.l.List(); len(all) > 0 {
		t.Errorf("left %v", all)
	}
}

func TestMacvlanIsAHostOfTheLAN(t *testing.T) {
	l := newLab(t)
	lan := l.neighbour()
	lan.serve(t, ":80")
	n, err := l.Create(Network{Name: "phys", Driver: DriverMacvlan, Options: map[string]string{optParent: "uplink0"},
		Subnets: []Subnet{{Subnet: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("192.0.2.2"), IPRange: netip.MustParsePrefix("192.0.2.0/28")}}})
	l.must(err)
	c := l.container(Request{Network: n.Name})
	if c.addr().String() != "192.0.2.3" { // .1 is this host, .2 the gateway
		t.Errorf("address %s", c.addr())
	}
	reaches(t, "container", c, "192.0.2.2:80", c.addr().String())
	c.serve(t, ":81")
	reaches(t, "LAN, at the container's own address", lan, c.addr().String()+":81", "192.0.2.2")
	if _, err := l.Attach(l.namespace().ns, []Request{{Network: n.Name, Container: "x", Ports: []Port{{HostPort: 1, ContainerPort: 1, Protocol: "tcp"}}}}); !errs.Is(err, errs.Invalid) {
		t.Errorf("published ports: %v", err)
	}
	for what, n := range map[string]Network{
		"no parent":     {},
		"a foreign one": {Options: map[string]string{optParent: "nothing0"}},
		"a bad mode":    {Options: map[string]string{optParent: "uplink0", optMode: "x"}},
		"MTU too large": {MTU: 9000, Options: map[string]string{optParent: "uplink0"}},
		"internal":      {Internal: true, Options: map[string]string{optParent: "uplink0"}},
	} {
		n.Name, n.Driver, n.Subnets = "bad", DriverMacvlan, []Subnet{{Subnet: netip.MustParsePrefix("198.51.100.0/24")}}
		if _, err := l.Create(n); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A kernel without ipvlan says so; with it a container is a host of the LAN that has this host's hardware address.
func TestIPvlanIsAHostOfTheLAN(t *testing.T) {
	l := newLab(t)
	lan := l.neighbour()
	lan.serve(t, ":80")
	subnet := Subnet{Subnet: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("192.0.2.2"), IPRange: netip.MustParsePrefix("192.0.2.0/28")}
	n, err := l.Create(Network{Name: "ip", Driver: DriverIPvlan, Options: map[string]string{optParent: "uplink0"}, Subnets: []Subnet{subnet}})
	if err != nil {
		if !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "this kernel has no ipvlan") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := l.container(Request{Network: n.Name})
	reaches(t, "container", c, "192.0.2.2:80", c.addr().String())
	c.serve(t, ":81")
	reaches(t, "LAN, at the container's own address", lan, c.addr().String()+":81", "192.0.2.2")
	_, err = l.Create(Network{Name: "mac", Driver: DriverMacvlan, Options: map[string]string{optParent: "uplink0"}, Subnets: []Subnet{subnet}})
	if !errs.Is(err, errs.Conflict) {
		t.Errorf("macvlan on a link that carries ipvlan: %v", err)
	}
}
