//go:build linux

package network

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/nft"
)

// An overlay network is one switch over several hosts: the same command on each of them makes a bridge there, and a VXLAN
// link (RFC 7348) on it that carries frames to the other hosts. There is nothing that the hosts agree on by talking: the
// list of peers, in the same order everywhere, says who is who. Each host gives out addresses of its own part of the
// subnet, the one at its place in the list, and is the gateway of its own containers. Where a container is, the links
// learn from its frames. A host that is away is waited for; when it is back, frames reach it again.
//
// VXLAN encrypts nothing: the hosts' network has to be trusted, or be a VPN. Only peers are listened to.

// Options of an overlay network.
const (
	optPeers     = "peers"      // ADDRESS,ADDRESS,…: every host, this one, too
	optPeersFile = "peers-file" // a file of them, one a line, read at each start of a container
	optVNI       = "vni"        // 1 to 16777215; by default of the name and the subnets
)

const (
	vxlanPort  = 4789
	leastParts = 16 // of the subnet: hosts may be added to the list later, at its end
)

// peers are the hosts of an overlay network, in the order of its list, and which of them is this one; -1: none.
func (n *Network) peers() (all []netip.Addr, self int, err error) {
	text := n.Options[optPeers]
	if file := n.Options[optPeersFile]; file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, -1, errs.New(errs.Invalid, "read peers of network "+n.Name, err)
		}
		text = ""
		for _, line := range strings.Split(string(b), "\n") {
			line, _, _ = strings.Cut(line, "#")
			text += "," + line
		}
	}
	for _, f := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' || r == '\r' }) {
		a, err := netip.ParseAddr(f)
		if err != nil || slices.Contains(all, a) || len(all) > 0 && a.Is4() != all[0].Is4() {
			return nil, -1, errs.Text(errs.Invalid, fmt.Sprintf("invalid peer %q: want addresses of hosts, of one family, each once", f))
		}
		all = append(all, a)
	}
	own, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, -1, errs.Wrap("list addresses", err)
	}
	self = slices.IndexFunc(all, func(a netip.Addr) bool {
		return slices.ContainsFunc(own, func(o netlink.Addr) bool { return o.IP.Equal(net.IP(a.AsSlice())) })
	})
	return all, self, nil
}

// prepareOverlay checks an overlay network's options, and cuts this host's part out of its subnets.
func (n *Network) prepareOverlay() error {
	all, self, err := n.peers()
	if err != nil {
		return err
	}
	switch {
	case len(all) == 0:
		return errs.Text(errs.Invalid, "an overlay network needs its hosts").WithHint("-o peers=ADDRESS,ADDRESS,… or -o peers-file=FILE, the same on every host")
	case self < 0:
		return errs.Text(errs.Invalid, fmt.Sprintf("none of the peers %v is an address of this host", all))
	case len(n.Subnets) == 0:
		return errs.Text(errs.Invalid, "an overlay network needs a subnet").WithHint("--subnet, the same on every host")
	}
	if v := n.Options[optVNI]; v != "" {
		if id, err := strconv.ParseUint(v, 10, 32); err != nil || id == 0 || id >= 1<<24 {
			return errs.Text(errs.Invalid, "invalid vni "+v+": want 1 to 16777215")
		}
	}
	most, err := carried(all, self)
	if err != nil {
		return err
	}
	if n.MTU == 0 {
		n.MTU = most
	} else if n.MTU > most {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid MTU %d: the way to the other hosts carries %d", n.MTU, most))
	}
	parts := 1 << bits.Len(uint(max(leastParts, len(all))-1))
	for i, sub := range n.Subnets {
		if sub.IPRange.IsValid() {
			continue // who says it for each host knows
		}
		part, ok := cut(sub.Subnet, self, parts)
		if !ok {
			return errs.Text(errs.Invalid, fmt.Sprintf("invalid subnet %s: too small for %d hosts", sub.Subnet, parts)).WithHint("or give each host its own --ip-range and --gateway")
		}
		n.Subnets[i].IPRange = part
		if !sub.Gateway.IsValid() {
			n.Subnets[i].Gateway = gatewayOf(part, self)
		}
	}
	return nil
}

// gatewayOf is the address of a host in its part of a subnet, if it was not given another: the first.
func gatewayOf(part netip.Prefix, index int) netip.Addr {
	if index == 0 {
		return part.Addr().Next() // the first is the subnet's own
	}
	return part.Addr()
}

// otherGateways are the addresses of the other hosts' bridges in an overlay network of IPv4. A host that was given another
// part or gateway by hand does not know where the others are.
func (n *Network) otherGateways() (out []netip.Addr) {
	all, self, err := n.peers()
	sub := n.Subnets[0]
	if err != nil || self < 0 || !sub.IPRange.IsValid() || !sub.Gateway.Is4() {
		return nil
	}
	parts := 1 << (sub.IPRange.Bits() - sub.Subnet.Bits())
	if part, ok := cut(sub.Subnet, self, parts); !ok || part != sub.IPRange || gatewayOf(part, self) != sub.Gateway {
		return nil
	}
	for i := range all {
		if part, ok := cut(sub.Subnet, i, parts); ok && i != self && i < parts {
			out = append(out, gatewayOf(part, i))
		}
	}
	return out
}

// carried is the MTU that is left of the way to the other hosts: without the headers of IP, UDP, VXLAN and Ethernet.
func carried(all []netip.Addr, self int) (int, error) {
	header := 50
	if all[self].Is6() {
		header = 70
	}
	least := 0
	for i, a := range all {
		if i == self {
			continue
		}
		routes, err := netlink.RouteGet(a.AsSlice())
		if err != nil || len(routes) == 0 {
			return 0, errs.New(errs.Invalid, "find the way to peer "+a.String(), err)
		}
		l, err := netlink.LinkByIndex(routes[0].LinkIndex)
		if err != nil {
			return 0, errs.Wrap("find the way to peer "+a.String(), err)
		}
		if mtu := l.Attrs().MTU - header; least == 0 || mtu < least {
			least = mtu
		}
	}
	if least == 0 { // no other host yet
		least = 1500 - header
	}
	return least, nil
}

// cut divides a range into equal parts, a power of two, and returns one of them.
func cut(p netip.Prefix, index, parts int) (netip.Prefix, bool) {
	length := p.Bits() + bits.Len(uint(parts)) - 1
	b := p.Addr().AsSlice()
	if length > len(b)*8-2 {
		return netip.Prefix{}, false
	}
	for i := range length - p.Bits() {
		if index>>i&1 == 1 {
			at := length - 1 - i
			b[at/8] |= 1 << (7 - at%8)
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(a, length), true
}

// vni is the number by which the hosts know the network's frames.
func (n *Network) vni() int {
	if id, err := strconv.Atoi(n.Options[optVNI]); err == nil {
		return id
	}
	sum := fnv.New32a()
	fmt.Fprint(sum, n.Name)
	for _, s := range n.Subnets {
		fmt.Fprint(sum, s.Subnet)
	}
	return int(sum.Sum32()%(1<<24-1)) + 1
}

func (n *Network) tunnel() string { return "vx-" + n.ID[:12] }

// joinHosts makes the VXLAN link of an overlay network, a port of its bridge.
func (s *Store) joinHosts(n *Network, bridge netlink.Link) error {
	if n.Driver != DriverOverlay {
		return nil
	}
	all, self, err := n.peers()
	if err != nil {
		return err
	}
	if self < 0 {
		return errs.Text(errs.Conflict, fmt.Sprintf("join network %s: none of the peers %v is an address of this host", n.Name, all))
	}
	if old, err := netlink.LinkByName(n.tunnel()); err == nil {
		_ = netlink.LinkDel(old) // of a making that was killed
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex, attrs.HardwareAddr = n.tunnel(), n.MTU, bridge.Attrs().Index, randomMAC()
	link := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: n.vni(), Port: vxlanPort, SrcAddr: all[self].AsSlice(), Learning: true, Age: 300}
	err = trace.Step("link add vxlan", "frames for containers of other hosts travel in UDP", "dev", n.tunnel(), "id", n.vni(), "local", all[self], "port", vxlanPort).
		Do(func() error { return netlink.LinkAdd(link) })
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errs.Text(errs.Unsupported, "make overlay network: this kernel has no VXLAN (CONFIG_VXLAN)")
	}
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return errs.Wrap("make "+n.tunnel(), err)
	}
	return s.reach(n)
}

// reach lets an overlay network's link know the other hosts that its list has now: who is not known yet is asked of all of
// them. Peers that are no longer listed are forgotten.
func (s *Store) reach(n *Network) error {
	all, self, err := n.peers()
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(n.tunnel())
	if err != nil {
		return errs.Wrap("find "+n.tunnel(), err)
	}
	everyone := make(net.HardwareAddr, 6)
	have, err := netlink.NeighList(link.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		return errs.Wrap("list peers", err)
	}
	known := map[netip.Addr]bool{}
	for _, h := range have {
		a, ok := netip.AddrFromSlice(h.IP)
		if a = a.Unmap(); !ok || h.HardwareAddr.String() != everyone.String() {
			continue
		}
		if known[a] = true; !slices.Contains(all, a) {
			_ = netlink.NeighDel(&h)
		}
	}
	var listen []nft.Element
	for i, a := range all {
		listen = append(listen, nft.Element{Set: setPeers + suffix(a), Key: a.AsSlice()})
		if i == self || known[a] {
			continue
		}
		entry := &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: everyone}
		err := trace.Step("bridge fdb append", "what nobody is known to want goes to this host, too", "dev", n.tunnel(), "dst", a).
			Do(func() error { return netlink.NeighAppend(entry) })
		if err != nil && err != unix.EEXIST {
			return errs.Wrap("add peer "+a.String(), err)
		}
	}
	if len(known) == len(all)-1 {
		return nil
	}
	return s.add("only peers are listened to", listen)
}
