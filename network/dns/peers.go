//go:build linux

package dns

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/listing"
)

// Names in an overlay network: what this host does not know is asked of the others, all at once, at the addresses that their
// bridges have in the network; no container can have one of those, or send with it. There every monitor of a container
// in the network listens, and one of them answers: the kernel chooses (SO_REUSEPORT, socket(7)). A host that is away
// makes the first question late, and is left out for a while.

// peerPort is where hosts ask each other, by UDP. Nobody has registered it.
const peerPort = 4053

const (
	peerPatience = 60 * time.Millisecond // of two tries each
	peerPause    = 3 * time.Second       // in which a host that has not answered is not asked
)

// place is what a container's record says of its place in a network.
type place struct {
	Network string     `json:"network"`
	Gateway netip.Addr `json:"gateway"` // this host's address there

	Peers []netip.Addr `json:"peers"` // the other hosts' addresses there
}

// overlays are the networks of the container that other hosts are in, too.
func (z *Zone) overlays() (out []place) {
	if z.Places == "" {
		return nil
	}
	es, _ := listing.Folder(z.Places)
	for _, e := range es {
		var p place
		if strings.HasSuffix(e.Name(), ".json") && atomicfile.ReadJSON(filepath.Join(z.Places, e.Name()), &p) == nil && len(p.Peers) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// peers is what a server needs to speak with other hosts.
type peers struct {
	sync.Mutex
	answering map[string]*os.File      // by network: where others ask us
	away      map[netip.Addr]time.Time // until when a host is left out
}

// Reach lets other hosts ask for the names of the networks that the container is in now.
func (s *Server) Reach() {
	s.peers.Lock()
	defer s.peers.Unlock()
	for _, p := range s.zone.overlays() {
		if s.peers.answering[p.Network] != nil || !p.Gateway.Is4() {
			continue
		}
		f, err := socket(unix.SOCK_DGRAM, &unix.SockaddrInet4{Port: peerPort, Addr: p.Gateway.As4()}, unix.SO_REUSEPORT)
		if err != nil {
			continue // the names of this host's containers are not found from others
		}
		if s.peers.answering == nil {
			s.peers.answering = map[string]*os.File{}
		}
		s.peers.answering[p.Network] = f
		go answerPeers(f, Zone{Records: s.zone.Records, Networks: []string{p.Network}})
	}
}

// answerPeers answers the questions of other hosts, until the socket is closed.
func answerPeers(f *os.File, z Zone) {
	buf := make([]byte, 4096)
	for {
		n, from, err := receive(f, buf)
		if err == os.ErrClosed {
			return
		}
		if err != nil || from == nil {
			continue
		}
		out, q := z.answer(buf[:n])
		if out == nil && q != nil {
			out = refuse(buf[:n], dnsmessage.RCodeNameError)
		}
		send(f, out, from)
	}
}

// askPeers asks the other hosts of the container's networks, and returns the first answer of one who knows the name.
func (s *Server) askPeers(query []byte) []byte {
	var hosts []netip.Addr
	s.peers.Lock()
	for _, p := range s.zone.overlays() {
		for _, a := range p.Peers {
			if time.Now().After(s.peers.away[a]) {
				hosts = append(hosts, a)
			}
		}
	}
	s.peers.Unlock()
	if len(hosts) == 0 {
		return nil
	}
	answers := make(chan []byte, len(hosts))
	for _, a := range hosts {
		go func() {
			u := Upstream{Servers: []netip.Addr{a}, Port: peerPort, patience: peerPatience}
			out := u.Ask(query, false)
			if out == nil {
				s.leaveOut(a)
			}
			answers <- out
		}()
	}
	for range hosts {
		if out := <-answers; len(out) > 3 && dnsmessage.RCode(out[3]&15) == dnsmessage.RCodeSuccess {
			return out
		}
	}
	return nil
}

func (s *Server) leaveOut(host netip.Addr) {
	s.peers.Lock()
	defer s.peers.Unlock()
	if s.peers.away == nil {
		s.peers.away = map[netip.Addr]time.Time{}
	}
	s.peers.away[host] = time.Now().Add(peerPause)
}
