//go:build linux

package network

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/linux/nft"
)

// The rules, as `nft list table inet berth` prints them with their comments. A rule is a chain, a comment, and the
// expressions below joined in order; registers are used from the first on, four bytes each, as concatenations need it.

// reg32 is the nth register of four bytes (NFT_REG32_00 and on); registers 1 to 4 of 16 bytes overlap them.
func reg32(n uint32) uint32 { return unix.NFT_REG32_00 + n }

func meta(key expr.MetaKey, reg uint32) expr.Any { return &expr.Meta{Key: key, Register: reg} }

func is(reg uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data}
}

// Keys of linux/netfilter/nf_tables.h that the library does not name: the kind of a link, padded as its name is.
const (
	metaIIFKind expr.MetaKey = 26
	metaOIFKind expr.MetaKey = 27
)

func isNot(reg uint32, data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: data}
}

func in(set string) expr.Any { return &expr.Lookup{SourceRegister: reg32(0), SetName: set} }
func notIn(set string) expr.Any {
	return &expr.Lookup{SourceRegister: reg32(0), SetName: set, Invert: true}
}

func verdict(kind expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: kind} }

// family is what differs between the rules of IPv4 and IPv6.
type family struct {
	suffix    string
	proto     byte // NFPROTO_*
	address   nftables.SetDatatype
	source    uint32 // offset of the source address in the network header
	dest      uint32
	size      uint32
	registers uint32 // how many registers an address fills
	loopback  []byte // 127.0.0.0/8: first byte; nil where nothing like it can be routed
}

var families = [2]family{
	{"4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 12, 16, 4, 1, []byte{127}},
	{"6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 8, 24, 16, 4, nil},
}

func (f family) match() []expr.Any {
	return []expr.Any{meta(expr.MetaKeyNFPROTO, 1), is(1, []byte{f.proto})}
}

func (f family) load(offset, reg uint32) expr.Any {
	return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size}
}

var (
	accept, drop = verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	notLoopback  = []expr.Any{meta(expr.MetaKeyIIFNAME, 1), isNot(1, ifname("lo"))}
	fromBridge   = []expr.Any{meta(expr.MetaKeyIIFNAME, 1), in(setBridges)}
	toBridge     = []expr.Any{meta(expr.MetaKeyOIFNAME, 1), in(setBridges)}
	sameBridge   = []expr.Any{meta(expr.MetaKeyIIFNAME, 1), meta(expr.MetaKeyOIFNAME, 2), in(setSame)}
	// toThisHost: the routing table says the destination is an address of this host.
	toThisHost = []expr.Any{&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		is(1, binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL))}
)

// conntrack matches a bit of `ct state` or `ct status`.
func conntrack(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		isNot(1, make([]byte, 4))}
}

// marked accepts a packet with a mark on it, so that the rules of another firewall on this host, which come later, can
// tell that it is ours (beside.go).
var marked = []expr.Any{meta(expr.MetaKeyMARK, 1),
	&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(^uint32(ourMark)),
		Xor: binaryutil.NativeEndian.PutUint32(ourMark)},
	&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}, accept}

var (
	known     = conntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	published = conntrack(expr.CtKeySTATUS, 1<<5) // IPS_DST_NAT: it came in through a published port
)

type rule struct {
	chain, comment string
	parts          [][]expr.Any
}

// rules returns all rules in the order in which they are tried.
func rules() []rule {
	one := func(e ...expr.Any) []expr.Any { return e }
	rs := []rule{
		{"forward", "answers", [][]expr.Any{fromBridge, known, marked}},
		{"forward", "answers", [][]expr.Any{toBridge, known, marked}},
		{"forward", "neighbours on one bridge", [][]expr.Any{sameBridge, marked}},
		{"forward", "an internal network has no way out", [][]expr.Any{one(meta(expr.MetaKeyIIFNAME, 1), in(setInternal), drop)}},
		{"forward", "an internal network has no way in", [][]expr.Any{one(meta(expr.MetaKeyOIFNAME, 1), in(setInternal), drop)}},
		{"forward", "published ports", [][]expr.Any{toBridge, published, marked}},
		{"forward", "networks are isolated from each other and from outside", [][]expr.Any{toBridge, one(drop)}},
		{"forward", "containers reach the world", [][]expr.Any{fromBridge, marked}},
		// A link of no kind, a real card, fits neither of the next two.
		{"forward", "from another bridge: somebody else's rules decide", [][]expr.Any{one(meta(metaIIFKind, 1), is(1, ifname("bridge")), accept)}},
		{"forward", "to another bridge: somebody else's rules decide", [][]expr.Any{one(meta(metaOIFKind, 1), is(1, ifname("bridge")), accept)}},
		{"forward", "this host was no router before: nothing is forwarded between its other links", [][]expr.Any{one(meta(expr.MetaKeyNFPROTO, 1), in(setGuard), drop)}},
	}
	for _, f := range families {
		rs = append(rs, f.rules()...)
	}
	return rs
}

func (f family) rules() []rule {
	one := func(e ...expr.Any) []expr.Any { return e }
	var rs []rule
	if f.loopback != nil {
		rs = append(rs, rule{"prerouting", "127.0.0.1 is reached from this host alone (CVE-2020-8558)", [][]expr.Any{f.match(), notLoopback,
			one(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.dest, Len: uint32(len(f.loopback))},
				is(1, f.loopback), drop)}})
	}
	rs = append(rs, rule{"prerouting", "only peers send frames of other hosts' containers", [][]expr.Any{f.match(), notLoopback,
		one(meta(expr.MetaKeyL4PROTO, 1), is(1, []byte{unix.IPPROTO_UDP}), &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			in(setTunnels), f.load(f.source, 1), notIn(setPeers+f.suffix), drop)}})
	// From a bridge only the addresses that were given out there; IPv6's link-local ones stay on their link anyway.
	rs = append(rs, rule{"prerouting", "no false source addresses", [][]expr.Any{f.match(), f.notLinkLocal(), fromBridge,
		one(meta(expr.MetaKeyIIFNAME, 1), notIn(setOverlay), f.load(f.source, reg32(0)), meta(expr.MetaKeyIIFNAME, reg32(f.registers)), notIn(setSources+f.suffix), drop)}})
	rs = append(rs, rule{"prerouting", "container addresses are reached through their bridge alone", [][]expr.Any{f.match(), notLoopback,
		one(meta(expr.MetaKeyIIFNAME, 1), notIn(setBridges), f.load(f.dest, 1), in(setSubnets+f.suffix), drop)}})
	for _, chain := range []string{"publish", "publish_local"} {
		rs = append(rs,
			rule{chain, "ports published on one address", [][]expr.Any{f.match(), f.dnat(mapAt+f.suffix, true)}},
			rule{chain, "ports published on every address", [][]expr.Any{f.match(), toThisHost, f.dnat(mapPublish+f.suffix, false)}},
			rule{chain, "ports published for the LAN", [][]expr.Any{f.match(), toThisHost, f.fromLAN(chain), f.dnat(mapLAN+f.suffix, false)}})
	}
	if f.loopback != nil {
		rs = append(rs, rule{"masquerade", "from 127.0.0.1 to a published port", [][]expr.Any{f.match(), toBridge,
			one(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.source, Len: uint32(len(f.loopback))},
				is(1, f.loopback), &expr.Masq{})}})
	}
	return append(rs,
		rule{"masquerade", "from a container to a published port of its neighbour or itself", [][]expr.Any{f.match(),
			one(f.load(f.source, reg32(0)), meta(expr.MetaKeyOIFNAME, reg32(f.registers)), in(setSources+f.suffix)), published, one(&expr.Masq{})}},
		rule{"masquerade", "outside, containers have the host's address", [][]expr.Any{f.match(),
			one(f.load(f.source, 1), in(setMasq+f.suffix), meta(expr.MetaKeyOIFNAME, 1), notIn(setBridges), &expr.Masq{})}})
}

// fromLAN lets neighbours in; what this host itself sends needs no such test.
func (f family) fromLAN(chain string) []expr.Any {
	if chain == "publish_local" {
		return nil
	}
	return []expr.Any{f.load(f.source, 1), in(setLAN + f.suffix)}
}

// notLinkLocal lets fe80::/10 pass the source check.
func (f family) notLinkLocal() []expr.Any {
	if f.loopback != nil {
		return nil
	}
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.source, Len: 2},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xc0}, Xor: []byte{0, 0}},
		isNot(1, []byte{0xfe, 0x80})}
}

// dnat looks the packet's protocol and port up in a map, with its destination address in front or without, and sends
// it to the address and port found there.
func (f family) dnat(name string, withAddress bool) []expr.Any {
	var out []expr.Any
	at := uint32(0)
	if withAddress {
		out, at = append(out, f.load(f.dest, reg32(0))), f.registers
	}
	return append(out,
		meta(expr.MetaKeyL4PROTO, reg32(at)),
		&expr.Payload{DestRegister: reg32(at + 1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg32(0), DestRegister: reg32(0), IsDestRegSet: true, SetName: name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.proto), RegAddrMin: reg32(0), RegProtoMin: reg32(f.registers), Specified: true})
}

func chains(t *nftables.Table) []*nftables.Chain {
	policy := nftables.ChainPolicyAccept
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority) *nftables.Chain {
		return &nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: &priority, Policy: &policy}
	}
	return []*nftables.Chain{
		chain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, *nftables.ChainPriorityRaw),
		chain("publish", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest),
		chain("publish_local", nftables.ChainTypeNAT, nftables.ChainHookOutput, *nftables.ChainPriorityNATDest),
		chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter-5),
		chain("masquerade", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource),
	}
}

// setsOf collects the sets of a table.
type setsOf struct {
	table *nftables.Table
	all   []*nftables.Set
	err   error
}

func (ss *setsOf) add(name string, interval bool, data []nftables.SetDatatype, key ...nftables.SetDatatype) {
	s := &nftables.Set{Table: ss.table, Name: name, Interval: interval, KeyType: key[0]}
	if key[0] == nftables.TypeIFName || key[0] == nftables.TypeNFProto { // else nft shows them from their last byte on
		s.KeyByteOrder = binaryutil.NativeEndian
	}
	var err error
	if len(key) > 1 {
		if s.KeyType, err = nftables.ConcatSetType(key...); err != nil {
			ss.err = err
		}
	}
	if data != nil {
		s.IsMap = true
		if s.DataType, err = nftables.ConcatSetType(data...); err != nil {
			ss.err = err
		}
	}
	ss.all = append(ss.all, s)
}

func sets(t *nftables.Table) ([]*nftables.Set, error) {
	ss := &setsOf{table: t}
	add := ss.add
	add(setBridges, false, nil, nftables.TypeIFName)
	add(setSame, false, nil, nftables.TypeIFName, nftables.TypeIFName)
	add(setInternal, false, nil, nftables.TypeIFName)
	add(setOverlay, false, nil, nftables.TypeIFName)
	add(setTunnels, false, nil, nftables.TypeInetService)
	add(setGuard, false, nil, nftables.TypeNFProto)
	for _, f := range families {
		to := []nftables.SetDatatype{f.address, nftables.TypeInetService}
		add(setSubnets+f.suffix, true, nil, f.address)
		add(setMasq+f.suffix, true, nil, f.address)
		add(setSources+f.suffix, false, nil, f.address, nftables.TypeIFName)
		add(setPeers+f.suffix, false, nil, f.address)
		add(setLAN+f.suffix, true, nil, f.address)
		add(mapPublish+f.suffix, false, to, nftables.TypeInetProto, nftables.TypeInetService)
		add(mapLAN+f.suffix, false, to, nftables.TypeInetProto, nftables.TypeInetService)
		add(mapAt+f.suffix, false, to, f.address, nftables.TypeInetProto, nftables.TypeInetService)
	}
	return ss.all, ss.err
}

// installTable replaces our two tables by new ones with these elements, in one transaction.
func installTable(es []nft.Element) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	inet := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	bridge := &nftables.Table{Name: tableName, Family: nftables.TableFamilyBridge}
	for _, t := range []*nftables.Table{inet, bridge} {
		// Adding it first makes deleting it right whether it was there or not.
		c.AddTable(t)
		c.DelTable(t)
		c.AddTable(t)
	}
	for _, part := range []struct {
		table *nftables.Table
		sets  func(*nftables.Table) ([]*nftables.Set, error)
		chain []*nftables.Chain
		rules []rule
	}{{inet, sets, chains(inet), rules()}, {bridge, bridgeSets, bridgeChains(bridge), bridgeRules()}} {
		ss, err := part.sets(part.table)
		if err != nil {
			return err
		}
		for _, s := range ss {
			if err := c.AddSet(s, setElements(es, part.table.Family, s.Name)); err != nil {
				return fmt.Errorf("set %s: %w", s.Name, err)
			}
		}
		byName := map[string]*nftables.Chain{}
		for _, chain := range part.chain {
			byName[chain.Name] = c.AddChain(chain)
		}
		for _, r := range part.rules {
			c.AddRule(&nftables.Rule{Table: part.table, Chain: byName[r.chain], Exprs: slices.Concat(r.parts...),
				UserData: userdata.AppendString(nil, userdata.TypeComment, r.comment)})
		}
	}
	return c.Flush()
}

func setElements(es []nft.Element, family nftables.TableFamily, set string) []nftables.SetElement {
	var out []nftables.SetElement
	for _, e := range es {
		if e.Set != set || (e.Family == unix.NFPROTO_BRIDGE) != (family == nftables.TableFamilyBridge) {
			continue
		}
		out = append(out, nftables.SetElement{Key: e.Key, Val: e.Value})
		if e.End != nil {
			out = append(out, nftables.SetElement{Key: e.End, IntervalEnd: true})
		}
	}
	return out
}

// tablesExist asks for both of our tables.
func tablesExist() (bool, error) {
	c, err := nftables.New()
	if err != nil {
		return false, err
	}
	for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyBridge} {
		ts, err := c.ListTablesOfFamily(family)
		if err != nil {
			return false, err
		}
		if !slices.ContainsFunc(ts, func(t *nftables.Table) bool { return t.Name == tableName }) {
			return false, nil
		}
	}
	return true, nil
}
