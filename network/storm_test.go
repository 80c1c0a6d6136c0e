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
)

// Many at once on one network, and their end: addresses are unique, nothing is left.
func TestTwoHundredAttachAtOnce(t *testing.T) {
	l := newLab(t)
	const many = 200
	hosts := make([]*host, many)
	for i := range hosts {
		hosts[i] = l.namespace()
	}
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			a, err := l.Attach(h.ns, []Request{{Network: DefaultName, Container: h.id, Name: "c" + h.id, Ports: []Port{{HostPort: uint16(20000 + i), ContainerPort: 80, Protocol: "tcp"}}}})
			if err != nil {
				t.Error(err)
			}
			h.Attachment = a
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	seen := map[netip.Addr]bool{}
	for _, h := range hosts {
		if seen[h.addr()] {
			t.Errorf("%s twice", h.addr())
		}
		seen[h.addr()] = true
	}
	hosts[0].serve(t, ":80")
	reaches(t, "the last to the first", hosts[many-1], hosts[0].addr().String()+":80", "")
	for _, h := range hosts {
		wg.Go(func() { l.end(h) })
	}
	wg.Wait()
	for _, family := range []string{"inet", "bridge"} {
		out, err := exec.Command("nft", "list", "table", family, tableName).Output()
		l.must(err)
		if strings.Contains(string(out), "veth") || strings.Contains(string(out), hosts[0].addr().String()) {
			t.Errorf("left in the firewall:\n%s", out)
		}
	}
	links, err := netlink.LinkList()
	l.must(err)
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, "veth") {
			t.Errorf("left: %s", link.Attrs().Name)
		}
	}
}

// A thousand leases, half of whose owners were killed: every address of theirs can be had again, none is given at once.
func TestLeasesOfTheDeadComeBack(t *testing.T) {
	l := newLab(t)
	n := l.network(Network{Name: "large", Subnets: []Subnet{{Subnet: netip.MustParsePrefix("10.44.0.0/22")}}})
	sub := n.Subnets[0]
	const room = 1024 - 3
	alive, dead := filepath.Join(l.state, "containers", "alive"), filepath.Join(l.state, "containers", "dead")
	l.must(os.MkdirAll(alive, 0o700))
	l.must(os.MkdirAll(dead, 0o700))
	var first netip.Addr
	for i := range room {
		a, err := l.lease(n, sub, netip.Addr{}, []string{"alive", "dead"}[i%2])
		l.must(err)
		if i == 0 {
			first = a
		}
	}
	if _, err := l.lease(n, sub, netip.Addr{}, "alive"); err == nil || !strings.Contains(err.Error(), "no available IPv4 addresses") {
		t.Errorf("a full network: %v", err)
	}
	l.must(os.Remove(dead))
	for range room / 2 {
		_, err := l.lease(n, sub, netip.Addr{}, "alive")
		l.must(err)
	}
	if used, free, err := l.Usage(n, sub); used != room+1 || free != 0 || err != nil {
		t.Errorf("%d in use, %d free, %v", used, free, err)
	}
	// What was given back is not given to the next: whoever still knows the old owner must not meet a new one.
	l.must(os.Remove(filepath.Join(l.leaseDir(n), "10.44.1.7")))
	l.must(os.Remove(filepath.Join(l.leaseDir(n), first.String())))
	a, err := l.lease(n, sub, netip.Addr{}, "alive")
	l.must(err)
	b, err := l.lease(n, sub, netip.Addr{}, "alive")
	l.must(err)
	if a == b {
		t.Errorf("%s twice", a)
	}
}

// Connections and disconnections at once leave what was there before.
func TestStormOfConnections(t *testing.T) {
	l := newLab(t)
	l.network(Network{Name: "front"})
	back := l.network(Network{Name: "back"})
	var hosts []*host
	for range 8 {
		hosts = append(hosts, l.container(Request{Network: "front"}))
	}
	var wg sync.WaitGroup
	for _, h := range hosts {
		wg.Go(func() {
			for range 5 {
				a, err := l.Join(h.ns, Request{Network: "back", Container: h.id, Name: "c" + h.id, Interface: "eth1"})
				if err == nil {
					_, err = l.DetachFrom(h.id, back)
				}
				if err != nil {
					t.Errorf("%v, %v", a, err)
				}
			}
		})
	}
	wg.Wait()
	if ends, err := l.AllEndpoints(back); len(ends) > 0 || err != nil {
		t.Errorf("left %v, %v", ends, err)
	}
	if leases, _ := filepath.Glob(filepath.Join(l.leaseDir(back), "1*")); len(leases) > 0 {
		t.Errorf("left %v", leases)
	}
	if list := nftList(t); strings.Count(list, back.Bridge) > 3 {
		t.Errorf("left in the firewall:\n%s", list)
	}
}
