//go:build linux

package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
	setOverlay  = "overlay"    // ifname: bridges on which containers of other hosts are seen
	setTunnels  = "tunnels"    // UDP port of VXLAN, if there is an overlay network
	setPeers    = "peers"      // addresses of hosts that may send to it
	setGuard    = "guard"      // protocol family: this host was no router for it before
	setLAN      = "lan"        // address ranges of neighbours
	mapPublish  = "publish"    // protocol . port : address . port
	mapAt       = "publish_at" // host address . protocol . port : address . port
	mapLAN      = "publish_lan"

	// In the table of the family bridge:
	setPorts = "ports"    // ifname: the outer ends of containers' links
	setMACs  = "hardware" // ifname . hardware address
	setAddrs = "address"  // ifname . address
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
	if n.Bridge == "" {
		return nil // the host's LAN
	}
	br := ifname(n.Bridge)
	es := []nft.Element{{Set: setBridges, Key: br}, {Set: setSame, Key: join(br, br)}}
	if n.Driver == DriverOverlay {
		es = append(es, nft.Element{Set: setOverlay, Key: br}, nft.Element{Set: setTunnels, Key: binary.BigEndian.AppendUint16(nil, vxlanPort)})
		all, _, _ := n.peers() // without a list nobody is listened to
		for _, a := range all {
			es = append(es, nft.Element{Set: setPeers + suffix(a), Key: a.AsSlice()})
		}
	}
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
	if e.HostInterface == "" {
		return nil // not on a bridge of ours
	}
	link := ifname(e.HostInterface)
	mac, _ := net.ParseMAC(e.MAC)
	onBridge := func(set string, key ...[]byte) nft.Element {
		return nft.Element{Family: unix.NFPROTO_BRIDGE, Set: set, Key: join(key...)}
	}
	es := []nft.Element{onBridge(setPorts, link), onBridge(setMACs, link, append(mac, 0, 0))}
	for _, a := range e.addresses() {
		es = append(es, nft.Element{Set: setSources + suffix(a), Key: join(a.AsSlice(), ifname(e.Bridge))},
			onBridge(setAddrs+suffix(a), link, a.AsSlice()))
	}
	for _, p := range e.Ports {
		for _, b := range e.bindings(p) {
			es = append(es, nft.Element{Set: b.set, Key: b.key, Value: join(b.to.AsSlice(), port(p.ContainerPort))})
		}
	}
	return es
}

// addresses are all that the container may send with.
func (e *Endpoint) addresses() (out []netip.Addr) {
	for _, p := range []netip.Prefix{e.Address, e.Address6} {
		if p.IsValid() {
			out = append(out, p.Addr())
		}
	}
	return append(out, e.LinkLocal...)
}

// binding is a published port of one protocol family: an element of a map.
type binding struct {
	host netip.Addr // of this host; zero: every one
	lan  bool       // for neighbours alone
	to   netip.Addr
	set  string
	key  []byte
}

// bindings are the elements that publish a port: without an address of the host in each family that the container has.
func (e *Endpoint) bindings(p Port) (out []binding) {
	any := !p.HostIP.IsValid() || p.HostIP.IsUnspecified()
	for _, to := range []netip.Addr{e.Address.Addr(), e.Address6.Addr()} {
		if !to.IsValid() || p.HostIP.IsValid() && p.HostIP.Is4() != to.Is4() {
			continue
		}
		b := binding{to: to, lan: p.LAN, set: mapPublish, key: join([]byte{protocolNumber(p.Protocol), 0, 0, 0}, port(p.HostPort))}
		switch {
		case p.LAN:
			b.set = mapLAN
		case !any:
			b.host, b.set, b.key = p.HostIP, mapAt, join(p.HostIP.AsSlice(), b.key)
		}
		b.set += suffix(to)
		out = append(out, b)
	}
	return out
}

// where names the addresses of the host that a binding is for.
func (b binding) where() string {
	family := "IPv" + suffix(b.to)
	switch {
	case b.lan:
		return "from the LAN to any " + family + " address of the host"
	case b.host.IsValid():
		return b.host.String()
	}
	return "any " + family + " address of the host"
}

// privateRanges are the addresses that `lan` means: those that are not routed in the Internet (RFC 1918, RFC 6598, RFC
// 3927, RFC 4193, RFC 4291). A neighbour with a public address is not told from a stranger, and is none.
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"),
}

// PrivateRanges returns the addresses that `lan` means.
func PrivateRanges() []netip.Prefix { return slices.Clone(privateRanges) }

// constant are the elements that do not depend on networks.
func (s *Store) constant() (es []nft.Element) {
	for _, p := range privateRanges {
		es = append(es, nft.Element{Set: setLAN + suffix(p.Addr()), Key: p.Addr().AsSlice(), End: last(p).Next().AsSlice()})
	}
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		if _, err := os.Stat(s.guardFile(family)); err == nil {
			es = append(es, nft.Element{Set: setGuard, Key: []byte{family}})
		}
	}
	return es
}

// guardFile remembers that forwarding of a family was switched on by us.
func (s *Store) guardFile(family byte) string {
	return filepath.Join(s.state, "networks", fmt.Sprintf("guard-%d", family))
}

// openFirewall lets a network's bridge into the sets, and makes the table when it is missing.
func (s *Store) openFirewall(n *Network) error {
	return s.add("the firewall knows the bridge and its addresses", n.elements())
}

// closeFirewall takes a network's bridge out of the sets.
func (s *Store) closeFirewall(n *Network) {
	for _, e := range n.elements() {
		if e.Set == setTunnels || strings.HasPrefix(e.Set, setPeers) {
			continue // perhaps also another network's; the next firewall is made without them
		}
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

// Repair puts back what of the firewall is gone and reports whether anything was. It is cheap when there is nothing to do.
func (s *Store) Repair() (bool, error) {
	if _, err := os.Stat(filepath.Join(s.state, "endpoints")); err != nil {
		return false, nil // no container had a network since boot
	}
	lock, err := s.lockFirewall()
	if err != nil {
		return false, err
	}
	defer lock.Unlock()
	there, err := tablesExist()
	if err != nil {
		return false, err
	}
	if !there {
		if err := s.install(nil); err != nil {
			return false, err
		}
	}
	changed, err := standBeside()
	return changed || !there, err
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
	es = append(es, s.constant()...)
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
		if k := fmt.Sprintf("%d %s %x", e.Family, e.Set, e.Key); !seen[k] {
			seen[k] = true
			out = append(out, e)
		}
	}
	return out
}
