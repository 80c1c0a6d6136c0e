//go:build linux

package dns

import (
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/berth-containers/berth/internal/listing"
)

// ttl is short, in seconds: containers come and go.
const ttl = 5

// Zone is what a container may ask for.
type Zone struct {
	Records  Records               `json:"records"`
	Networks []string              `json:"networks"`         // ids of networks whose names are seen, always
	Places   string                `json:"places,omitempty"` // folder of the container's endpoints, NETWORK.json each: what it joins later, too
	Hosts    map[string]netip.Addr `json:"hosts,omitempty"`  // fixed names: host.docker.internal and the like
}

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
		if host := z.Records.host(z.networks(), name); host != "" {
			return z.build(h, q, nil, host, edns(query)), &q
		}
		return nil, &q
	}
	addrs, known := z.Records.Lookup(z.networks(), name)
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
	return z.build(h, q, addrs, "", edns(query)), &q
}

// networks are those that the container is in now.
func (z *Zone) networks() []string {
	if z.Places == "" {
		return z.Networks
	}
	out := append([]string(nil), z.Networks...)
	es, _ := listing.Folder(z.Places)
	for _, e := range es {
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok {
			out = append(out, id)
		}
	}
	return out
}

func (z *Zone) build(h dnsmessage.Header, q dnsmessage.Question, addrs []netip.Addr, ptr string, edns bool) []byte {
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
	if edns { // a question with an OPT record is answered with one (RFC 6891 section 6.1.1)
		var opt dnsmessage.ResourceHeader
		_ = opt.SetEDNS0(ednsSize, dnsmessage.RCodeSuccess, false)
		_ = b.StartAdditionals()
		_ = b.OPTResource(opt, dnsmessage.OPTResource{})
	}
	out, err := b.Finish()
	if err != nil {
		return nil
	}
	return out
}

// ednsSize is the longest question by UDP that is read whole: what fits an Ethernet frame.
const ednsSize = 1232

func question(query []byte) *dnsmessage.Question {
	var p dnsmessage.Parser
	if _, err := p.Start(query); err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	return &q
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
func limit(query []byte) int { return max(512, optSize(query)) }

// edns reports whether a question carries an OPT record.
func edns(query []byte) bool { return optSize(query) >= 0 }

// optSize is what the question's OPT record says; -1 when it has none.
func optSize(query []byte) int {
	var p dnsmessage.Parser
	if _, err := p.Start(query); err != nil || p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return -1
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil {
			return -1
		}
		if h.Type == dnsmessage.TypeOPT {
			return int(h.Class)
		}
		if p.SkipAdditional() != nil {
			return -1
		}
	}
}
