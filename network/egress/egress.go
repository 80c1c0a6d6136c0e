//go:build linux

// Package egress lets a container reach only what it was allowed. The rules are nftables' in the container's own network
// namespace, made before any program of the container runs and out of reach for it without NET_ADMIN. Addresses and
// ranges stand in the rules; names are let in by the container's resolver (package dns), which puts what it answers into
// the sets below before the container hears of it. What is refused is logged.
package egress

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/network"
	"github.com/berth-containers/berth/network/dns"
)

// Policy is what a container may reach.
type Policy struct {
	Networks []netip.Prefix   // with all ports
	Ports    []netip.AddrPort // TCP and UDP
	Names    []dns.Allowed
	Learn    bool // everything, and it is written down
}

// notLAN is what `lan` does not mean although it is private: where clouds tell secrets (169.254.169.254), and loopback.
func notLAN(p netip.Prefix) bool {
	return p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() && p.Addr().Is4()
}

// Parse reads the values of --egress: none, lan, learn, ADDRESS, CIDR, ADDRESS:PORT, NAME, *.DOMAIN, NAME:PORT; each may
// hold several with commas between them.
func Parse(values []string) (*Policy, error) {
	p := new(Policy)
	var words []string
	for _, v := range values {
		words = append(words, strings.Split(v, ",")...)
	}
	for _, w := range words {
		switch w = strings.TrimSpace(w); w {
		case "none", "learn":
			if len(words) > 1 {
				return nil, errs.Text(errs.Invalid, fmt.Sprintf("invalid egress: %s stands alone", w))
			}
			p.Learn = w == "learn"
		case "lan":
			p.Networks = append(p.Networks, slices.DeleteFunc(network.PrivateRanges(), notLAN)...)
		default:
			if err := p.parse(w); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func (p *Policy) parse(w string) error {
	if n, err := netip.ParsePrefix(w); err == nil {
		p.Networks = append(p.Networks, n.Masked())
		return nil
	}
	if a, err := netip.ParseAddr(strings.Trim(w, "[]")); err == nil {
		p.Networks = append(p.Networks, netip.PrefixFrom(a, a.BitLen()))
		return nil
	}
	if ap, err := netip.ParseAddrPort(w); err == nil && ap.Port() > 0 {
		p.Ports = append(p.Ports, ap)
		return nil
	}
	name, port, ported := strings.Cut(w, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	bare := strings.TrimPrefix(name, "*.")
	folded, ok := dns.Fold(bare)
	if ported && (err != nil || n == 0) || !ok || strings.ContainsAny(bare, "*/ \t[]") {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid egress %q", w)).
			WithHint("none, lan, learn, ADDRESS, CIDR, ADDRESS:PORT, NAME[:PORT] or *.DOMAIN[:PORT]")
	}
	p.Names = append(p.Names, dns.Allowed{Name: folded, Below: bare != name, Port: uint16(n)})
	return nil
}

// sets and chains of the table in the container's namespace
type table struct {
	*nftables.Conn
	t     *nftables.Table
	chain *nftables.Chain
	err   error
}

func (t *table) rule(comment string, parts ...expr.Any) {
	t.AddRule(&nftables.Rule{Table: t.t, Chain: t.chain, Exprs: parts, UserData: userdata.AppendString(nil, userdata.TypeComment, comment)})
}

func (t *table) set(name string, interval bool, elements []nftables.SetElement, key ...nftables.SetDatatype) {
	s := &nftables.Set{Table: t.t, Name: name, Interval: interval, KeyType: key[0]}
	if len(key) > 1 {
		k, err := nftables.ConcatSetType(key...)
		if err != nil {
			t.err = err
		}
		s.KeyType = k
	}
	if err := t.AddSet(s, elements); err != nil {
		t.err = err
	}
}

// Install makes the rules in a network namespace.
func (p *Policy) Install(ns *os.File) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(ns.Fd())))
	if err != nil {
		return errs.Wrap("limit egress", err)
	}
	policy := nftables.ChainPolicyAccept
	t := &table{Conn: c, t: c.AddTable(&nftables.Table{Name: dns.EgressTable, Family: nftables.TableFamilyINet})}
	t.chain = c.AddChain(&nftables.Chain{Name: "output", Table: t.t, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput,
		Priority: nftables.ChainPriorityFilter, Policy: &policy})
	p.rules(t)
	if t.err == nil {
		t.err = trace.Step("nft add table", "what the container may reach is decided before any program of it runs", "table", "inet "+dns.EgressTable,
			"networks", len(p.Networks), "names", len(p.Names)).Do(c.Flush)
	}
	return errs.Wrap("limit egress", t.err)
}

func meta(key expr.MetaKey, reg uint32) expr.Any { return &expr.Meta{Key: key, Register: reg} }
func is(data ...byte) expr.Any                   { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

var accept = &expr.Verdict{Kind: expr.VerdictAccept}

func (p *Policy) rules(t *table) {
	lo := make([]byte, unix.IFNAMSIZ)
	copy(lo, "lo")
	t.rule("within the container", meta(expr.MetaKeyOIFNAME, 1), is(lo...), accept)
	t.rule("answers, and what has begun", &expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)}, accept)
	for _, kind := range []byte{133, 135, 136, 143} { // without neighbour discovery (RFC 4861) there is no IPv6
		t.rule("neighbours of IPv6 find each other", meta(expr.MetaKeyL4PROTO, 1), is(unix.IPPROTO_ICMPV6),
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1}, is(kind), accept)
	}
	p.family(t, "4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 16, 4)
	p.family(t, "6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 24, 16)
	log := &expr.Log{Key: 1 << unix.NFTA_LOG_GROUP, Group: dns.EgressLogGroup}
	if p.Learn {
		t.rule("it is written down", log, accept)
		return
	}
	t.rule("it is logged, but not without end", &expr.Limit{Type: expr.LimitTypePkts, Rate: 20, Unit: expr.LimitTimeSecond, Burst: 20}, log)
	t.rule("all else is refused", &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
}

// family are the sets and rules of one protocol family.
func (p *Policy) family(t *table, suffix string, proto byte, address nftables.SetDatatype, offset, size uint32) {
	var nets, ports []nftables.SetElement
	for _, n := range merged(p.Networks) {
		if n.first.Is4() != (size == 4) {
			continue
		}
		nets = append(nets, nftables.SetElement{Key: n.first.AsSlice()})
		if n.end.IsValid() {
			nets = append(nets, nftables.SetElement{Key: n.end.AsSlice(), IntervalEnd: true})
		}
	}
	for _, a := range p.Ports {
		if a.Addr().Is4() == (size == 4) {
			ports = append(ports, nftables.SetElement{Key: dns.PortKey(a.Addr(), a.Port())})
		}
	}
	t.set("networks"+suffix, true, nets, address)
	t.set(dns.EgressHosts+suffix, false, nil, address)
	t.set(dns.EgressPorts+suffix, false, ports, address, nftables.TypeInetService)
	match := []expr.Any{meta(expr.MetaKeyNFPROTO, 1), is(proto)}
	load := &expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}
	in := func(set string) expr.Any { return &expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: set} }
	t.rule("networks that are allowed", slices.Concat(match, []expr.Any{load, in("networks" + suffix), accept})...)
	t.rule("names that are allowed", slices.Concat(match, []expr.Any{load, in(dns.EgressHosts + suffix), accept})...)
	for _, l4 := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		t.rule("ports that are allowed", slices.Concat(match, []expr.Any{meta(expr.MetaKeyL4PROTO, 1), is(l4), load,
			&expr.Payload{DestRegister: unix.NFT_REG32_00 + size/4, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			in(dns.EgressPorts + suffix), accept})...)
	}
}

// span is a range of addresses up to, not including, its end; without an end up to the last address there is.
type span struct{ first, end netip.Addr }

func (s span) String() string { return fmt.Sprintf("%s to %s", s.first, s.end) }

// merged are ranges that do not overlap, as a set of intervals wants them.
func merged(ps []netip.Prefix) (out []span) {
	sorted := slices.Clone(ps)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var last netip.Prefix
	for _, p := range sorted {
		if last.IsValid() && last.Overlaps(p) {
			continue // sorted prefixes that overlap are within each other
		}
		last = p
		end := p.Addr().AsSlice()
		for i := p.Bits(); i < len(end)*8; i++ {
			end[i/8] |= 1 << (7 - i%8)
		}
		top, _ := netip.AddrFromSlice(end)
		out = append(out, span{p.Addr(), top.Next()})
	}
	return out
}
