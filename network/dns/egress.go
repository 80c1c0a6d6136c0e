//go:build linux

package dns

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/linux/nft"
)

// Names in the container's network namespace that the rules of package egress and this resolver share.
const (
	EgressTable    = "berth_egress"
	EgressHosts    = "hosts" // + 4 or 6: addresses of names that are allowed with all ports
	EgressPorts    = "ports" // + 4 or 6: address . port
	EgressLogGroup = 118     // of nfnetlink_log, in that namespace alone
)

// Allowed is a name that a container may reach.
type Allowed struct {
	Name  string `json:"name"`
	Below bool   `json:"below,omitempty"` // every name below it, not itself
	Port  uint16 `json:"port,omitempty"`  // 0: all
}

// Egress is a container's policy as far as names and the log are concerned.
type Egress struct {
	Names []Allowed `json:"names,omitempty"`
	Learn bool      `json:"learn,omitempty"`
	Log   string    `json:"log"` // file of [Seen], a line of JSON each

	mu    sync.Mutex
	seen  map[string]bool
	names map[netip.Addr]string // what was answered, to tell a connection's address by name
	nft   *nft.Conn             // in the container's namespace
	log   *os.File              // the kernel's messages about packets, from there
}

// Seen is a line of the log: what a container wanted to reach the first time.
type Seen struct {
	Time    time.Time `json:"time"`
	Refused bool      `json:"refused"`
	What    string    `json:"what"` // NAME, NAME:PORT or ADDRESS:PORT, with /udp or /PROTOCOL if it is not TCP
}

const (
	mostSeen  = 4096
	mostNames = 4096
)

// open makes the sockets; the calling thread is in the container's namespace.
func (e *Egress) open() (err error) {
	e.seen, e.names = map[string]bool{}, map[netip.Addr]string{}
	if e.nft, err = nft.Dial(); err != nil {
		return err
	}
	e.log, err = nft.OpenLog(EgressLogGroup)
	return err
}

// allows returns the rules that let a name through.
func (e *Egress) allows(name string) (out []Allowed) {
	name, ok := Fold(name)
	if !ok {
		return nil
	}
	for _, a := range e.Names {
		if a.Name == name && !a.Below || a.Below && strings.HasSuffix(name, "."+a.Name) {
			out = append(out, a)
		}
	}
	return out
}

// PortKey is an element of the sets of ports.
func PortKey(a netip.Addr, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(a.AsSlice(), port), 0, 0)
}

// refuses reports whether a question must not be answered, and writes that down.
func (e *Egress) refuses(q *dnsmessage.Question) bool {
	name := q.Name.String()
	if e.Learn || len(e.allows(name)) > 0 {
		return false
	}
	if folded, ok := Fold(name); ok {
		e.note(true, folded)
	}
	return true
}

// admit lets the addresses of an answer through, before the answer is given.
func (e *Egress) admit(q *dnsmessage.Question, answer []byte) {
	name, _ := Fold(q.Name.String())
	rules := e.allows(name)
	for _, a := range addresses(answer) {
		e.mu.Lock()
		if len(e.names) < mostNames {
			e.names[a] = name
		}
		e.mu.Unlock()
		suffix := "6"
		if a.Is4() {
			suffix = "4"
		}
		for _, r := range rules {
			el := nft.Element{Set: EgressHosts + suffix, Key: a.AsSlice()}
			if r.Port > 0 {
				el = nft.Element{Set: EgressPorts + suffix, Key: PortKey(a, r.Port)}
			}
			_ = e.nft.Send(nft.Add(EgressTable, []nft.Element{el})) // if it fails, the connection is refused: the safe side
		}
	}
}

// addresses are those of an answer, also of the names that aliases in it lead to.
func addresses(answer []byte) (out []netip.Addr) {
	var p dnsmessage.Parser
	if _, err := p.Start(answer); err != nil || p.SkipAllQuestions() != nil {
		return nil
	}
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return out
		}
		switch h.Type {
		case dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil {
				return out
			}
			out = append(out, netip.AddrFrom4(r.A))
		case dnsmessage.TypeAAAA:
			r, err := p.AAAAResource()
			if err != nil {
				return out
			}
			out = append(out, netip.AddrFrom16(r.AAAA))
		default:
			if p.SkipAnswer() != nil {
				return out
			}
		}
	}
}

// watch writes down which packets the kernel tells of, until the log is closed.
func (e *Egress) watch() {
	buf := make([]byte, 8192)
	for {
		n, _, err := receive(e.log, buf)
		if err == os.ErrClosed {
			return
		}
		if err != nil {
			continue // messages were lost; the next ones come
		}
		nft.Logged(buf[:n], func(packet []byte) {
			if to, protocol, ok := destination(packet); ok {
				e.note(!e.Learn, e.tell(to, protocol))
			}
		})
	}
}

// tell names a destination, by the name that was asked for if there was one.
func (e *Egress) tell(to netip.AddrPort, protocol string) string {
	what := to.String()
	if to.Port() == 0 {
		what = to.Addr().String()
	}
	e.mu.Lock()
	if name := e.names[to.Addr()]; name != "" && to.Port() > 0 {
		what = name + what[strings.LastIndexByte(what, ':'):]
	}
	e.mu.Unlock()
	if protocol != "tcp" {
		what += "/" + protocol
	}
	return what
}

// note writes a line for what was not seen before.
func (e *Egress) note(refused bool, what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen[what] || len(e.seen) >= mostSeen {
		return
	}
	e.seen[what] = true
	line, err := json.Marshal(Seen{time.Now().UTC(), refused, what})
	if err != nil {
		return
	}
	f, err := os.OpenFile(e.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.Write(append(line, '\n'))
}

// destination reads the headers of an IP packet (RFC 791, RFC 8200). Extension headers of IPv6 are not looked into.
func destination(b []byte) (to netip.AddrPort, protocol string, ok bool) {
	if len(b) < 20 {
		return to, "", false
	}
	var a netip.Addr
	var kind byte
	var rest []byte
	switch b[0] >> 4 {
	case 4:
		kind, a = b[9], netip.AddrFrom4([4]byte(b[16:20]))
		rest = b[min(int(b[0]&15)*4, len(b)):]
	case 6:
		if len(b) < 40 {
			return to, "", false
		}
		kind, a, rest = b[6], netip.AddrFrom16([16]byte(b[24:40])), b[40:]
	default:
		return to, "", false
	}
	port := uint16(0)
	switch kind {
	case unix.IPPROTO_TCP:
		protocol = "tcp"
	case unix.IPPROTO_UDP:
		protocol = "udp"
	default:
		protocol = "icmp"
	}
	if protocol != "icmp" && len(rest) >= 4 {
		port = binary.BigEndian.Uint16(rest[2:])
	}
	return netip.AddrPortFrom(a, port), protocol, true
}
