//go:build linux

package network

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/berth-containers/berth/internal/errs"
)

func TestContainersReachEachOtherAndNothingIsLeft(t *testing.T) {
	l := newLab(t)
	a, b := l.container(Request{Network: DefaultName}), l.container(Request{Network: DefaultName})
	a.serve(t, ":80")
	reaches(t, "container", b, a.addr().String()+":80", b.addr().String())
	n, err := l.Get(DefaultName)
	l.must(err)
	reaches(t, "host", nil, a.addr().String()+":80", n.Subnets[0].Gateway.String())
	if !strings.Contains(nftList(t), a.addr().String()) {
		t.Error("the firewall does not know the container")
	}
	l.end(a)
	l.end(b)
	if list := nftList(t); strings.Contains(list, a.addr().String()) || strings.Contains(list, b.addr().String()) {
		t.Errorf("left in the firewall:\n%s", list)
	}
	left, err := filepath.Glob(filepath.Join(l.state, "*", "*", "*"))
	l.must(err)
	for _, f := range left {
		if !strings.Contains(f, "last-") {
			t.Errorf("left: %s", f)
		}
	}
	if _, err := netlink.LinkByName(a.Endpoints[0].HostInterface); err == nil {
		t.Error("veth left")
	}
}

func TestPublishedPortIsReachedFromEverywhere(t *testing.T) {
	l := newLab(t)
	lan := l.neighbour()
	ports := []Port{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}}
	c, other := l.container(Request{Network: DefaultName, Ports: ports}), l.container(Request{Network: DefaultName})
	foreign := l.network(Network{Name: "foreign"})
	far := l.container(Request{Network: foreign.Name})
	c.serve(t, ":80")
	reaches(t, "LAN", lan, "192.0.2.1:8080", "192.0.2.2")
	reaches(t, "host by 127.0.0.1", nil, "127.0.0.1:8080", "")
	reaches(t, "host by its address", nil, "192.0.2.1:8080", "")
	reaches(t, "neighbour on the bridge", other, "192.0.2.1:8080", "")
	reaches(t, "the container itself", c, "192.0.2.1:8080", "")
	reaches(t, "container of another network", far, "192.0.2.1:8080", "")
	refused(t, "container of another network", far, c.addr().String()+":80")
}

func TestPortOnLoopbackStaysOnThisHost(t *testing.T) {
	l := newLab(t)
	lan := l.neighbour()
	lo := netip.MustParseAddr("127.0.0.1")
	c := l.container(Request{Network: DefaultName, Ports: []Port{{HostIP: lo, HostPort: 8081, ContainerPort: 80, Protocol: "tcp"}}})
	c.serve(t, ":80")
	reaches(t, "host", nil, "127.0.0.1:8081", "")
	refused(t, "LAN", lan, "192.0.2.1:8081")
	// CVE-2020-8558: a neighbour routes 127.0.0.0/8 to us.
	l.must(lan.do(func() error {
		return exec.Command("sh", "-ec", "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 192.0.2.1; echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet").Run()
	}))
	refused(t, "LAN by a route to 127.0.0.1", lan, "127.0.0.1:8081")
}

func TestContainerAddressIsNoWayIn(t *testing.T) {
	l := newLab(t)
	lan := l.neighbour()
	c := l.container(Request{Network: DefaultName, Ports: []Port{{HostPort: 8082, ContainerPort: 80, Protocol: "tcp"}}})
	c.serve(t, ":80")
	l.must(lan.do(func() error { return exec.Command("ip", "route", "add", "10.210.0.0/20", "via", "192.0.2.1").Run() }))
	refused(t, "LAN, routed straight to the container", lan, c.addr().String()+":80")
	reaches(t, "LAN, through the published port", lan, "192.0.2.1:8082", "192.0.2.2")
}

func TestOutsideSeesTheHostAndFalseSourcesAreDropped(t *testing.T) {
	l := newLab(t)
	lan := l.neighbour()
	c, peer := l.container(Request{Network: DefaultName}), l.container(Request{Network: DefaultName})
	lan.serve(t, ":80")
	peer.serve(t, ":80")
	reaches(t, "container", c, "192.0.2.2:80", "192.0.2.1")
	l.must(c.do(func() error { return exec.Command("ip", "addr", "add", "10.210.9.9/20", "dev", "eth0").Run() }))
	refused(t, "container with a stolen address", c, "192.0.2.2:80", "10.210.9.9")
}

func TestInternalNetworkHasNoWayOut(t *testing.T) {
	l := newLab(t)
	lan := l.neighbour()
	n := l.network(Network{Name: "closed", Internal: true})
	a, b := l.container(Request{Network: n.Name}), l.container(Request{Network: n.Name})
	lan.serve(t, ":80")
	b.serve(t, ":80")
	reaches(t, "neighbour", a, b.addr().String()+":80", a.addr().String())
	l.must(a.do(func() error {
		return exec.Command("ip", "route", "add", "default", "via", n.Subnets[0].Gateway.String()).Run()
	}))
	refused(t, "internal container", a, "192.0.2.2:80")
}

func TestIPv6(t *testing.T) {
	l := newLab(t)
	n := l.network(Network{Name: "six", Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.9.8.0/24")}, {Subnet: netip.MustParsePrefix("fd00:9::/64")}}})
	a, b := l.container(Request{Network: n.Name}), l.container(Request{Network: n.Name})
	a.serve(t, ":80")
	six := a.Endpoints[0].Address6.Addr().String()
	reaches(t, "container by IPv6", b, "["+six+"]:80", b.Endpoints[0].Address6.Addr().String())
	v4 := l.container(Request{Network: DefaultName})
	l.must(v4.do(func() error {
		out, err := exec.Command("ip", "-6", "addr", "show", "dev", "eth0").Output()
		if strings.TrimSpace(string(out)) != "" {
			t.Errorf("IPv6 on a network without it: %s", out)
		}
		return err
	}))
}

func TestTakenPortChangesNothing(t *testing.T) {
	l := newLab(t)
	port := []Port{{HostPort: 8083, ContainerPort: 80, Protocol: "tcp"}}
	first := l.container(Request{Network: DefaultName, Ports: port})
	before := nftList(t)
	h := l.namespace()
	_, err := l.Attach(h.ns, []Request{{Network: DefaultName, Container: h.id, Ports: port}})
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "port is already allocated") || errs.HintOf(err) == "" {
		t.Fatalf("error %v, hint %q", err, errs.HintOf(err))
	}
	if after := nftList(t); after != before {
		t.Errorf("the firewall changed:\n%s\n%s", before, after)
	}
	if ends, _ := l.EndpointsOf(h.id); len(ends) > 0 {
		t.Errorf("left: %+v", ends)
	}
	l.end(first)
	again := l.container(Request{Network: DefaultName, Ports: port})
	again.serve(t, ":80")
	reaches(t, "host", nil, "127.0.0.1:8083", "")
}

func TestFlushedFirewallIsPutBack(t *testing.T) {
	l := newLab(t)
	c := l.container(Request{Network: DefaultName, Ports: []Port{{HostPort: 8084, ContainerPort: 80, Protocol: "tcp"}}})
	c.serve(t, ":80")
	if done, err := l.Repair(); done || err != nil {
		t.Fatalf("repaired what was whole: %v, %v", done, err)
	}
	l.must(exec.Command("nft", "flush", "ruleset").Run())
	refused(t, "host", nil, "127.0.0.1:8084")
	if done, err := l.Repair(); !done || err != nil {
		t.Fatalf("repaired: %v, %v", done, err)
	}
	reaches(t, "host", nil, "127.0.0.1:8084", "")
	// The next container puts it back as well.
	l.must(exec.Command("nft", "flush", "ruleset").Run())
	l.container(Request{Network: DefaultName})
	reaches(t, "host", nil, "127.0.0.1:8084", "")
}

func TestWhatAKilledEngineLeftIsFoundByItsRecord(t *testing.T) {
	l := newLab(t)
	c := l.container(Request{Network: DefaultName, Ports: []Port{{HostPort: 8085, ContainerPort: 80, Protocol: "tcp"}}})
	for _, f := range c.Held {
		f.Close()
	}
	l.Detach(c.id)
	if list := nftList(t); strings.Contains(list, c.addr().String()) {
		t.Errorf("left in the firewall:\n%s", list)
	}
	if _, err := netlink.LinkByName(c.Endpoints[0].HostInterface); err == nil {
		t.Error("veth left")
	}
	l.Detach(c.id) // twice is once
}

func TestAddresses(t *testing.T) {
	l := newLab(t)
	n := l.network(Network{Name: "small", Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.7.0.0/29"),
		Aux: map[string]netip.Addr{"router": netip.MustParseAddr("10.7.0.2")}}}})
	sub := n.Subnets[0]
	alive := func(id string) string {
		l.must(os.MkdirAll(filepath.Join(l.state, "containers", id), 0o700))
		return id
	}
	var got []string
	for _, id := range []string{"a", "b", "c", "d"} {
		a, err := l.lease(n, sub, netip.Addr{}, alive(id))
		l.must(err)
		got = append(got, a.String())
	}
	if s := strings.Join(got, " "); s != "10.7.0.3 10.7.0.4 10.7.0.5 10.7.0.6" {
		t.Errorf("leased %s", s)
	}
	if _, err := l.lease(n, sub, netip.Addr{}, alive("e")); !errs.Is(err, errs.Conflict) {
		t.Errorf("an exhausted pool gives %v", err)
	}
	if _, err := l.lease(n, sub, netip.MustParseAddr("10.7.0.4"), "e"); !errs.Is(err, errs.Conflict) {
		t.Errorf("a taken address gives %v", err)
	}
	for _, bad := range []string{"10.7.0.1", "10.7.0.2", "10.7.0.0", "10.7.0.7", "10.8.0.1"} {
		if _, err := l.lease(n, sub, netip.MustParseAddr(bad), "e"); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s gives %v", bad, err)
		}
	}
	l.must(os.Remove(filepath.Join(l.state, "containers", "b"))) // b is gone and its lease stayed
	if a, err := l.lease(n, sub, netip.Addr{}, "e"); err != nil || a.String() != "10.7.0.4" {
		t.Errorf("the dead one's address: %v, %v", a, err)
	}
}

func TestParallelLeasesAreUnique(t *testing.T) {
	l := newLab(t)
	n := l.network(Network{Name: "busy"})
	l.must(os.MkdirAll(filepath.Join(l.state, "containers", "x"), 0o700))
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[netip.Addr]bool{}
	for range 8 {
		wg.Go(func() {
			for range 30 {
				a, err := l.lease(n, n.Subnets[0], netip.Addr{}, "x")
				mu.Lock()
				if err != nil || seen[a] {
					t.Errorf("%v twice, or %v", a, err)
				}
				seen[a] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 240 {
		t.Errorf("%d addresses, want 240", len(seen))
	}
}

func TestDefinitions(t *testing.T) {
	l := newLab(t)
	a, b := l.network(Network{Name: "a"}), l.network(Network{Name: "b"})
	if a.Subnets[0].Subnet.Overlaps(b.Subnets[0].Subnet) || a.Subnets[0].Gateway != a.Subnets[0].Subnet.Addr().Next() {
		t.Errorf("subnets %+v, %+v", a.Subnets, b.Subnets)
	}
	for _, name := range []string{a.Name, a.ID, a.ID[:8]} {
		if n, err := l.Get(name); err != nil || n.ID != a.ID {
			t.Errorf("get %q: %v, %v", name, n, err)
		}
	}
	sub := func(s string) []Subnet { return []Subnet{{Subnet: netip.MustParsePrefix(s)}} }
	for what, n := range map[string]Network{
		"a name that is taken":    {Name: "a"},
		"a name with a slash":     {Name: "../x"},
		"a name with a meaning":   {Name: "host"},
		"an overlapping subnet":   {Name: "c", Subnets: []Subnet{{Subnet: a.Subnets[0].Subnet}}},
		"a subnet with host bits": {Name: "c", Subnets: sub("10.1.1.1/24")},
		"a subnet of one":         {Name: "c", Subnets: sub("10.1.1.0/31")},
		"a gateway outside":       {Name: "c", Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.1.1.0/24"), Gateway: netip.MustParseAddr("10.1.2.1")}}},
		"a foreign driver":        {Name: "c", Driver: "weave"},
		"an MTU too large":        {Name: "c", MTU: 100000},
		"a bridge name too long":  {Name: "c", Bridge: "a-very-long-bridge"},
	} {
		if _, err := l.Create(n); err == nil || errs.KindOf(err) == errs.Internal {
			t.Errorf("%s: %v", what, err)
		}
	}
	c := l.container(Request{Network: "a"})
	if _, err := l.Remove("a"); !errs.Is(err, errs.Conflict) {
		t.Errorf("a network in use: %v", err)
	}
	l.end(c)
	_, err := l.Remove("a")
	l.must(err)
	if _, err := netlink.LinkByName(a.Bridge); err == nil {
		t.Error("the bridge stayed")
	}
	if _, err := l.Get(a.ID); !errs.Is(err, errs.NotFound) { // its name might be the beginning of another's id
		t.Errorf("removed and found: %v", err)
	}
	if all, _ := l.List(); len(all) != 1 || all[0].Name != "b" {
		t.Errorf("left %v", all)
	}
}

func TestSubnetAvoidsTheHostsRoutes(t *testing.T) {
	l := newLab(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "vpn0"
	l.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	defer unplug("vpn0")
	l.must(exec.Command("sh", "-ec", "ip addr add 10.211.0.1/24 dev vpn0; ip link set vpn0 up").Run())
	if n := l.network(Network{Name: "x"}); n.Subnets[0].Subnet.String() != "10.211.1.0/24" {
		t.Errorf("chose %v", n.Subnets)
	}
	_, err := l.Create(Network{Name: "y", Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.211.0.0/25")}}})
	if err == nil || !strings.Contains(err.Error(), "vpn0") {
		t.Errorf("the error does not name the route in the way: %v", err)
	}
}

func TestParsePorts(t *testing.T) {
	for spec, want := range map[string]string{
		"80":                    "0.0.0.0:0->80/tcp",
		"8080:80":               "0.0.0.0:8080->80/tcp",
		"127.0.0.1:8080:80/udp": "127.0.0.1:8080->80/udp",
		"127.0.0.1::80":         "127.0.0.1:0->80/tcp",
		"[::1]:8080:80/TCP":     "[::1]:8080->80/tcp",
		"9000-9001:80-81":       "0.0.0.0:9000->80/tcp 0.0.0.0:9001->81/tcp",
		"80-81/sctp":            "0.0.0.0:0->80/sctp 0.0.0.0:0->81/sctp",
		"0":                     "", "": "", "x": "", "80/foo": "", "1:2:3:4": "", "8080-8081:80-82": "", "70000:80": "", "-1": "", "81-80": "", "300.1.1.1:1:1": "",
	} {
		ps, err := ParsePorts(spec)
		var got []string
		for _, p := range ps {
			got = append(got, p.String())
		}
		if s := strings.Join(got, " "); s != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", spec, s, err, want)
		}
	}
}
