//go:build linux

package network

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Hosts and containers that mean harm. Where a frame must not arrive, the same frame is sent once more without the
// firewall, so that the test is known to see it.

// inject sends a frame on a host's link, as a program with NET_RAW does.
func (h *host) inject(t *testing.T, link string, frame []byte) {
	t.Helper()
	err := h.do(func() error {
		l, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Index, Protocol: 0x0300})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) mac(t *testing.T) net.HardwareAddr {
	t.Helper()
	m, err := net.ParseMAC(h.Endpoints[0].MAC)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// run runs a line of sh in the host's namespace.
func (h *host) run(t *testing.T, line string) string {
	t.Helper()
	var out []byte
	err := h.do(func() (err error) {
		out, err = exec.Command("sh", "-ec", line).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

// harmless sends frames and looks for their effect: there must be none with the firewall, and one without.
func (l *lab) harmless(what string, send func(), effect func() bool) {
	l.Helper()
	send()
	time.Sleep(50 * time.Millisecond)
	if effect() {
		l.Errorf("%s: it has an effect", what)
	}
	l.must(exec.Command("nft", "delete", "table", "bridge", tableName).Run())
	seen := false
	for range 40 {
		send()
		time.Sleep(25 * time.Millisecond)
		if seen = effect(); seen {
			break
		}
	}
	if !seen {
		l.Errorf("%s: it has no effect without the firewall either", what)
	}
	if done, err := l.Repair(); !done || err != nil {
		l.Fatalf("repaired: %v, %v", done, err)
	}
}

func arpReply(from, to net.HardwareAddr, sender, target netip.Addr) []byte {
	f := append(append([]byte{}, to...), from...)
	f = append(f, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2)
	return append(append(append(append(f, from...), sender.AsSlice()...), to...), target.AsSlice()...)
}

func TestContainerIsNobodyElse(t *testing.T) {
	l := newLab(t)
	attacker, victim, peer := l.container(Request{Network: DefaultName}), l.container(Request{Network: DefaultName}), l.container(Request{Network: DefaultName})
	victim.serve(t, ":80")
	reaches(t, "peer", peer, victim.addr().String()+":80", "")
	neighbours := func() string { return peer.run(t, "ip neigh show "+victim.addr().String()) }
	l.harmless("an ARP reply for another's address",
		func() {
			attacker.inject(t, "eth0", arpReply(attacker.mac(t), peer.mac(t), victim.addr(), peer.addr()))
		},
		func() bool { return strings.Contains(neighbours(), attacker.mac(t).String()) })

	// The bridge learns where a hardware address is from any frame that has it as its source.
	port := func() string {
		out, err := exec.Command("bridge", "fdb", "show", "br", "berth0").CombinedOutput()
		l.must(err)
		for _, line := range strings.Split(string(out), "\n") {
			if strings.HasPrefix(line, victim.mac(t).String()+" ") {
				return line
			}
		}
		return ""
	}
	l.harmless("a frame with another's hardware address",
		func() {
			frame := arpReply(victim.mac(t), peer.mac(t), victim.addr(), peer.addr())
			attacker.inject(t, "eth0", frame)
		},
		func() bool { return strings.Contains(port(), attacker.Endpoints[0].HostInterface) })
}

// routerAdvert is one of a router that is at a link-local address (RFC 4861 section 4.2), to all nodes.
func routerAdvert(mac net.HardwareAddr) []byte {
	src, dst := netip.MustParseAddr("fe80::bad").As16(), netip.MustParseAddr("ff02::1").As16()
	icmp := []byte{icmpv6RouterAdvert, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	sum := uint32(len(icmp)) + unix.IPPROTO_ICMPV6
	for _, b := range [][]byte{src[:], dst[:], icmp} {
		for i := 0; i < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
	f := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, 255)
	return append(append(append(f, src[:]...), dst[:]...), icmp...)
}

// CVE-2020-13401: whoever believes router advertisements is still safe from those of another container.
func TestRouterAdvertisementsOfContainersAreDropped(t *testing.T) {
	l := newLab(t)
	n := l.network(Network{Name: "six", Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.9.8.0/24")}, {Subnet: netip.MustParsePrefix("fd00:9::/64")}}})
	attacker, peer := l.container(Request{Network: n.Name}), l.container(Request{Network: n.Name})
	for _, link := range []string{"eth0"} {
		if got := strings.TrimSpace(peer.run(t, "cat /proc/sys/net/ipv6/conf/"+link+"/accept_ra")); got != "0" {
			t.Errorf("accept_ra of %s is %s", link, got)
		}
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + n.Bridge + "/accept_ra"); err != nil || strings.TrimSpace(string(b)) != "0" {
		t.Errorf("accept_ra of the bridge is %s, %v", b, err)
	}
	peer.run(t, "echo 2 >/proc/sys/net/ipv6/conf/eth0/accept_ra")
	l.harmless("a router advertisement",
		func() { attacker.inject(t, "eth0", routerAdvert(attacker.mac(t))) },
		func() bool { return strings.Contains(peer.run(t, "ip -6 route show default"), "fe80::bad") })
}

// A host that runs a container does not become a router for its neighbours.
func TestHostIsNoRouterForOthers(t *testing.T) {
	l := newLab(t)
	l.must(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0))
	lan, far := l.neighbour(), l.namespace()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "uplink1"
	l.must(netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(far.ns.Fd()))}))
	l.Cleanup(func() { unplug("uplink1") })
	(*host)(nil).run(t, "ip addr add 198.51.100.1/24 dev uplink1; ip link set uplink1 up")
	far.run(t, "ip addr add 198.51.100.2/24 dev eth0; ip link set eth0 up; ip route add default via 198.51.100.1")
	lan.run(t, "ip route add 198.51.100.0/24 via 192.0.2.1")
	far.serve(t, ":80")
	c := l.container(Request{Network: DefaultName})
	reaches(t, "container", c, "198.51.100.2:80", "198.51.100.1")
	refused(t, "LAN, through this host", lan, "198.51.100.2:80")
	l.must(exec.Command("nft", "flush", "ruleset").Run())
	reaches(t, "LAN, without the firewall", lan, "198.51.100.2:80", "192.0.2.2")
	if done, err := l.Repair(); !done || err != nil {
		t.Fatalf("repaired: %v, %v", done, err)
	}
	refused(t, "LAN, with the firewall put back", lan, "198.51.100.2:80")
	// Another engine's containers are behind a bridge of their own, and are its business.
	(*host)(nil).run(t, "ip link add theirs type bridge; ip link set theirs up; ip addr flush dev uplink1; ip link set uplink1 master theirs; ip addr add 198.51.100.1/24 dev theirs")
	l.Cleanup(func() { unplug("theirs") })
	reaches(t, "LAN, to another engine's container", lan, "198.51.100.2:80", "192.0.2.2")
}

func TestPublishedForTheLANAlone(t *testing.T) {
	l := newLab(t)
	lan := l.neighbour() // 192.0.2.2 stands for a stranger: it is no private address
	(*host)(nil).run(t, "ip addr add 192.168.77.1/24 dev uplink0")
	lan.run(t, "ip addr add 192.168.77.2/24 dev eth0")
	ports, err := ParsePorts("lan:8090:80")
	l.must(err)
	c, other := l.container(Request{Network: DefaultName, Ports: ports}), l.container(Request{Network: DefaultName})
	c.serve(t, ":80")
	reaches(t, "neighbour", lan, "192.168.77.1:8090", "192.168.77.2")
	refused(t, "stranger", lan, "192.0.2.1:8090")
	reaches(t, "this host", nil, "127.0.0.1:8090", "")
	reaches(t, "another container", other, "192.168.77.1:8090", "")
}

func TestPortsOfIPv6(t *testing.T) {
	l := newLab(t)
	lan := l.neighbour()
	(*host)(nil).run(t, "ip addr add 2001:db8:1::1/64 dev uplink0 nodad")
	lan.run(t, "ip addr add 2001:db8:1::2/64 dev eth0 nodad")
	n := l.network(Network{Name: "six", Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.9.8.0/24")}, {Subnet: netip.MustParsePrefix("fd00:9::/64")}}})
	c := l.container(Request{Network: n.Name, Ports: []Port{{HostPort: 8091, ContainerPort: 80, Protocol: "tcp"}}})
	c.serve(t, ":80")
	reaches(t, "LAN by IPv6", lan, "[2001:db8:1::1]:8091", "2001:db8:1::2")
	reaches(t, "LAN by IPv4", lan, "192.0.2.1:8091", "192.0.2.2")
	reaches(t, "host by IPv6", nil, "[2001:db8:1::1]:8091", "")
	lan.run(t, "ip -6 route add fd00:9::/64 via 2001:db8:1::1")
	refused(t, "LAN, routed straight to the container", lan, "["+c.Endpoints[0].Address6.Addr().String()+"]:80")
}

// What listens on 127.0.0.1 of the host is not for containers, whatever routes they make.
func TestHostLoopbackIsOutOfReach(t *testing.T) {
	l := newLab(t)
	(*host)(nil).serve(t, "127.0.0.1:8092")
	c := l.container(Request{Network: DefaultName})
	gateway := c.Endpoints[0].Gateway.String()
	refused(t, "container", c, gateway+":8092")
	c.run(t, "ip addr del 127.0.0.1/8 dev lo; echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet; ip route add 127.0.0.0/8 via "+gateway)
	refused(t, "container with a route to 127.0.0.1", c, "127.0.0.1:8092")
}

// Other firewalls that forbid forwarding: containers have a network beside them, and strangers still do not pass.
func TestBesideFirewallsThatDropForwarding(t *testing.T) {
	firewalld := "nft -f - <<X\ntable inet firewalld {\n chain filter_FORWARD {\n type filter hook forward priority 10; policy accept;\n reject with icmpx type admin-prohibited\n }\n}\nX"
	for name, commands := range map[string][2]string{
		"iptables":        {"iptables-nft -P FORWARD DROP", "iptables-nft -F FORWARD"},
		"legacy iptables": {"iptables-legacy -P FORWARD DROP", "iptables-legacy -F FORWARD"},
		"firewalld":       {firewalld, "nft delete table inet firewalld\n" + firewalld},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			lan := l.neighbour()
			t.Cleanup(func() {
				_ = exec.Command("sh", "-c", "nft flush ruleset; iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F").Run()
			})
			(*host)(nil).run(t, commands[0])
			lan.serve(t, ":80")
			c := l.container(Request{Network: DefaultName, Ports: []Port{{HostPort: 8093, ContainerPort: 80, Protocol: "tcp"}}})
			c.serve(t, ":80")
			works := func(when string) {
				reaches(t, "container "+when, c, "192.0.2.2:80", "192.0.2.1")
				reaches(t, "LAN "+when, lan, "192.0.2.1:8093", "192.0.2.2")
			}
			works("at first")
			(*host)(nil).run(t, commands[1]) // a reload
			if done, err := l.Repair(); !done || err != nil {
				t.Fatalf("repaired: %v, %v", done, err)
			}
			works("after a reload")
			if done, err := l.Repair(); done || err != nil {
				t.Fatalf("repaired what was whole: %v, %v", done, err)
			}
			if strings.HasPrefix(name, "ip") { // its own program still understands its chain
				if out := (*host)(nil).run(t, "iptables-nft -S FORWARD"); !strings.Contains(out, "--mark 0x100000/0x100000") {
					t.Errorf("iptables shows %s", out)
				}
			}
		})
	}
}
