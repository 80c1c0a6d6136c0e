//go:build linux

package network

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The table `bridge berth` looks at what containers put on a bridge before the bridge does: also frames that never reach
// the IP layer of this host, between two containers. A container sends with the hardware address and the addresses that
// it was given, and is no router, no DHCP server and no bridge of its neighbours, whatever its capabilities are.

const (
	etherSource, etherType = 6, 12 // offsets in an Ethernet header
	arpSender, arpAddress  = 8, 14 // in an ARP packet of Ethernet and IPv4 (RFC 826)
	icmpv6RouterAdvert     = 134
	icmpv6Redirect         = 137
	dhcpServer, dhcpv6     = 67, 547
)

func linkHeader(offset, length, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseLLHeader, Offset: offset, Len: length}
}

func netHeader(offset, length, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

// ether matches the type of a frame.
func ether(kind uint16) []expr.Any {
	return []expr.Any{linkHeader(etherType, 2, 1), is(1, []byte{byte(kind >> 8), byte(kind)})}
}

// given is false for a field of a frame that was not given to its link: the link's name and the field are in no set.
func given(field func(reg uint32) expr.Any, set string) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyIIFNAME, reg32(0)), field(reg32(unix.IFNAMSIZ / 4)), notIn(set), drop}
}

// icmpv6 matches a type of message right behind the header of IPv6.
func icmpv6(kind byte) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyL4PROTO, 1), is(1, []byte{unix.IPPROTO_ICMPV6}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1}, is(1, []byte{kind}), drop}
}

func udpFrom(number uint16) []expr.Any {
	return []expr.Any{meta(expr.MetaKeyL4PROTO, 1), is(1, []byte{unix.IPPROTO_UDP}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 2}, is(1, []byte{byte(number >> 8), byte(number)}), drop}
}

func bridgeRules() []rule {
	one := func(e ...expr.Any) []expr.Any { return e }
	add := func(comment string, parts ...[]expr.Any) rule { return rule{"prerouting", comment, parts} }
	source4 := func(reg uint32) expr.Any { return netHeader(12, 4, reg) }
	source6 := func(reg uint32) expr.Any { return netHeader(8, 16, reg) }
	return []rule{
		add("only containers are looked at", one(meta(expr.MetaKeyIIFNAME, 1), notIn(setPorts), accept)),
		add("no false hardware addresses", given(func(reg uint32) expr.Any { return linkHeader(etherSource, 6, reg) }, setMACs)),
		add("nobody answers with another's hardware address", ether(unix.ETH_P_ARP),
			given(func(reg uint32) expr.Any { return netHeader(arpSender, 6, reg) }, setMACs)),
		add("nobody answers for another's address", ether(unix.ETH_P_ARP),
			given(func(reg uint32) expr.Any { return netHeader(arpAddress, 4, reg) }, setAddrs+"4")),
		add("ARP", ether(unix.ETH_P_ARP), one(accept)),
		add("no container is a DHCP server", ether(unix.ETH_P_IP), udpFrom(dhcpServer)),
		add("no false source addresses", ether(unix.ETH_P_IP), given(source4, setAddrs+"4")),
		add("IPv4", ether(unix.ETH_P_IP), one(accept)),
		add("no container is a router of its neighbours (CVE-2020-13401)", ether(unix.ETH_P_IPV6), icmpv6(icmpv6RouterAdvert)),
		add("no container redirects its neighbours", ether(unix.ETH_P_IPV6), icmpv6(icmpv6Redirect)),
		add("no container is a DHCP server", ether(unix.ETH_P_IPV6), udpFrom(dhcpv6)),
		add("an address is being tried", ether(unix.ETH_P_IPV6), one(netHeader(8, 16, 1), is(1, make([]byte, 16)), accept)),
		add("no false source addresses", ether(unix.ETH_P_IPV6), families[1].notLinkLocal(), given(source6, setAddrs+"6")),
		add("IPv6", ether(unix.ETH_P_IPV6), one(accept)),
		add("nothing but IP", one(drop)),
	}
}

func bridgeChains(t *nftables.Table) []*nftables.Chain {
	policy := nftables.ChainPolicyAccept
	return []*nftables.Chain{{Name: "prerouting", Table: t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityRef(-300), Policy: &policy}}
}

func bridgeSets(t *nftables.Table) ([]*nftables.Set, error) {
	ss := &setsOf{table: t}
	ss.add(setPorts, false, nil, nftables.TypeIFName)
	ss.add(setMACs, false, nil, nftables.TypeIFName, nftables.TypeEtherAddr)
	ss.add(setAddrs+"4", false, nil, nftables.TypeIFName, nftables.TypeIPAddr)
	ss.add(setAddrs+"6", false, nil, nftables.TypeIFName, nftables.TypeIP6Addr)
	return ss.all, ss.err
}
