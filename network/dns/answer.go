//go:build linux

package dns

import (
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// ttl is short, in seconds: containers come and go.
const ttl = 5

// Zone is what a container may ask for.
type Zone struct {
	Records  Records               `json:"records"`
	Networks []string              `json:"networks"`        // ids of the networks whose names are seen
	Hosts    map[string]netip.Addr `json:"hosts,omitempty"` // fixed names: host.docker.internal and the like
	Reverse  Reverse               `json:"-"`
}

// Reverse names the container that has an address, as "name.network"; "" when none has.
type Reverse func(netip.Addr) string

// answer returns the whole response to a question that this zone knows, or nil when it has to be forwarded. A name that
// is known has no other records than its addresses: asking for others gives an empty answer, never another server's.
func (z *Zone) answer(query []byte) ([]byte, *dnsmessage.Question) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil, nil
	}
	q, err := p.Question()
	if err != nil || q.Class != dnsmessage.ClassINET || h.OpCode != 0 {
		return nil, &q
	}
	name := q.Name.String()
	if q.Type == dnsmessage.TypePTR {
		if a, ok := reverseAddr(name); ok && z.Reverse != nil {
			if host := z.Reverse(a); host != "" {
				return z.build(h, q, nil, host), &q
			}
		}
		return nil, &q
	}
	addrs, known := z.Records.Lookup(z.Networks, name)
	if !known {
		if folded, ok := Fold(name); ok {
			if a, ok := z.Hosts[folded]; ok {
				addrs, known = []netip.Addr{a}, true
			}
		}
	}
	if !known {
		return nil, &q
	}
	return z.build(h, q, addrs, ""), &q
}

func (z *Zone) build(h dnsmessage.Header, q dnsmessage.Question, addrs []netip.Addr, ptr string) []byte {
	b := dnsmessage.NewBuilder(make([]byte, 0, 512), dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true,
		RecursionDesired: h.RecursionDesired, RecursionAvailable: true})
	b.EnableCompression()
	rh := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: ttl}
	_ = b.StartQuestions()
	_ = b.Question(q)
	_ = b.StartAnswers()
	for _, a := range addrs {
		switch {
		case q.Type == dnsmessage.TypeA && a.Is4():
			_ = b.AResource(rh, dnsmessage.AResource{A: a.As4()})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			_ = b.AAAAResource(rh, dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	if ptr != "" {
		if n, err := dnsmessage.NewName(ptr + "."); err == nil {
			_ = b.PTRResource(rh, dnsmessage.PTRResource{PTR: n})
		}
	}
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

// refuse is a response without an answer.
func refuse(query []byte, code dnsmessage.RCode) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RCode: code,
		RecursionDesired: h.RecursionDesired, RecursionAvailable: true})
	if q, err := p.Question(); err == nil && b.StartQuestions() == nil {
		_ = b.Question(q)
	}
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

// truncated is the start of a response that says: ask again by TCP.
func truncated(query []byte) []byte {
	out := refuse(query, dnsmessage.RCodeSuccess)
	if len(out) > 2 {
		out[2] |= 0x02 // TC, RFC 1035 section 4.1.1
	}
	return out
}

// limit is how long a response by UDP may be: 512 bytes, or what the question's OPT record says (RFC 6891 section 6.2.3).
func limit(query []byte) int {
	var p dnsmessage.Parser
	if _, err := p.Start(query); err != nil || p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return 512
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return 512
		}
		if h.Type == dnsmessage.TypeOPT {
			return max(512, int(h.Class))
		}
		if p.SkipAdditional() != nil {
			return 512
		}
	}
}

// reverseAddr reads 4.3.2.1.in-addr.arpa. and its twin of IPv6.
func reverseAddr(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if s, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		f := strings.Split(s, ".")
		if len(f) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(f[3] + "." + f[2] + "." + f[1] + "." + f[0])
		return a, err == nil
	}
	s, ok := strings.CutSuffix(name, ".ip6.arpa.")
	f := strings.Split(s, ".")
	if !ok || len(f) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := 31; i >= 0; i-- {
		b.WriteString(f[i])
		if i%4 == 0 && i > 0 {
			b.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}
