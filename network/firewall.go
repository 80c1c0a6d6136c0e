//go:build linux

package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/nft"
)

// tableName is our one table, of family inet. Nothing outside of it is ever touched.
const tableName = "berth"

// Names of the sets and maps in the table; those that end in 4 have a twin for IPv6 that ends in 6.
const (
	setBridges  = "bridges"    // ifname: every bridge of ours
	setSame     = "same"       // ifname . ifname: each bridge with itself
	setInternal = "internal"   // ifname: bridges with no way out
	setSubnets  = "subnets"    // address ranges behind the bridges
	setMasq     = "masquerade" // the ranges of them that hide behind the host's address
	setSources  = "sources"    // address . ifname: who may send with which address from which bridge
	mapPublish  = "publish"    // protocol . port : address . port
	mapAt       = "publish_at" // host address . protocol . port : address . port
)

func suffix(a netip.Addr) string {
	if a.Is4() {
		return "4"
	}
	return "6"
}

// ifname is an interface's name as the kernel compares it: 16 bytes, padded with zeros.
func ifname(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}

// port is a field of two bytes in a register of four.
func port(p uint16) []byte { return binary.BigEndian.AppendUint16(make([]byte, 0, 4), p)[:4] }

func join(fields ...[]byte) (out []byte) {
	for _, f := range fields {
		out = append(out, f...)
	}
	return out
}

// elements are a network's part of the sets.
func (n *Network) elements() []nft.Element {
	br := ifname(n.Bridge)
	es := []nft.Element{{Set: setBridges, Key: br}, {Set: setSame, Key: join(br, br)}}
	if n.Internal {
		es = append(es, nft.Element{Set: setInternal, Key: br})
	}
	for _, sub := range n.Subnets {
		first, end := sub.Subnet.Addr().AsSlice(), last(sub.Subnet).Next().AsSlice()
		es = append(es, nft.Element{Set: setSubnets + suffix(sub.Gateway), Key: first, End: end})
		if !n.Internal && !n.NoMasq {
			es = append(es, nft.Element{Set: setMasq + suffix(sub.Gateway), Key: first, End: end})
		}
	}
	return es
}

// elements are an endpoint's part of the sets and maps.
func (e *Endpoint) elements() []nft.Element {
	var es []nft.Element
	for _, p := range []netip.Prefix{e.Address, e.Address6} {
		if p.IsValid() {
			a := p.Addr()
			es = append(es, nft.Element{Set: setSources + suffix(a), Key: join(a.AsSlice(), ifname(e.Bridge))})
		}
	}
	for _, p := range e.Ports {
		to := e.Address.Addr()
		if p.HostIP.Is6() {
			to = e.Address6.Addr()
		}
		if !to.IsValid() {
			continue
		}
		key, set := join([]byte{protocolNumber(p.Protocol), 0, 0, 0}, port(p.HostPort)), mapPublish
		if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
			key, set = join(p.HostIP.AsSlice(), key), mapAt
		}
		es = append(es, nft.Element{Set: set + suffix(to), Key: key, Value: join(to.AsSlice(), port(p.ContainerPort))})
	}
	return es
}

// openFirewall lets a network's bridge into the sets, and makes the table when it is missing.
func (s *Store) openFirewall(n *Network) error {
	return s.add("the firewall knows the bridge and its addresses", n.elements())
}

// closeFirewall takes a network's bridge out of the sets.
func (s *Store) closeFirewall(n *Network) {
	for _, e := range n.elements() {
		_ = nft.Send(nft.Delete(tableName, []nft.Element{e}))
	}
}

// admit opens the firewall for an endpoint: its address may send, its published ports lead to it.
func (s *Store) admit(n *Network, e *Endpoint) error {
	err := s.add("packets of the container pass, its published ports lead to it", e.elements())
	if errors.Is(err, unix.EEXIST) {
		return errs.Text(errs.Conflict, fmt.Sprintf("publish ports %v: port is already allocated", e.Ports)).
			WithHint("another container publishes it; see `berth ps`")
	}
	return err
}

// add gives elements to the kernel in one batch. A missing table or set (the first network, or somebody flushed the
// ruleset) is made anew with all that belongs in it, from the records.
func (s *Store) add(why string, es []nft.Element) error {
	err := trace.Step("nft add element", why, "table", "inet "+tableName, "elements", len(es)).
		Do(func() error { return nft.Send(nft.Add(tableName, es)) })
	if !errors.Is(err, unix.ENOENT) {
		return errs.Wrap("open firewall", err)
	}
	lock, err := s.lockFirewall()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	// Another process may have made it while this one waited.
	if err := nft.Send(nft.Add(tableName, es)); !errors.Is(err, unix.ENOENT) {
		return errs.Wrap("open firewall", err)
	}
	return s.install(es)
}

// Repair makes the table anew when it is gone and reports whether it was. It is cheap when there is nothing to do.
func (s *Store) Repair() (bool, error) {
	if _, err := os.Stat(filepath.Join(s.state, "endpoints")); err != nil {
		return false, nil // no container had a network since boot
	}
	lock, err := s.lockFirewall()
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	there, err := tableExists()
	if err != nil || there {
		return false, err
	}
	return true, s.install(nil)
}

func (s *Store) lockFirewall() (*flock.Lock, error) {
	if err := os.MkdirAll(filepath.Join(s.state, "networks"), 0o700); err != nil {
		return nil, errs.Wrap("lock firewall", err)
	}
	l, err := flock.Exclusive(filepath.Join(s.state, "networks", "firewall.lock"))
	return l, errs.Wrap("lock firewall", err)
}

// install makes the table in one atomic step: rules, and the elements of every network that has a bridge and of every
// endpoint on record, and es.
func (s *Store) install(es []nft.Element) error {
	all, err := s.List()
	if err != nil {
		return err
	}
	for _, n := range all {
		if _, err := netlink.LinkByName(n.Bridge); err != nil {
			continue
		}
		es = append(es, n.elements()...)
		ends, err := s.Endpoints(n)
		if err != nil {
			return err
		}
		for i := range ends {
			es = append(es, ends[i].elements()...)
		}
	}
	err = trace.Step("nft add table", "the rules of Berth's firewall, none of them anybody else's", "table", "inet "+tableName).
		Do(func() error { return installTable(unique(es)) })
	return errs.Wrap("make table inet "+tableName, err)
}

// unique drops elements that are there twice: an endpoint that is being added is on record already.
func unique(es []nft.Element) []nft.Element {
	seen := map[string]bool{}
	var out []nft.Element
	for _, e := range es {
		if k := e.Set + "\x00" + string(e.Key); !seen[k] {
			seen[k] = true
			out = append(out, e)
		}
	}
	return out
}
