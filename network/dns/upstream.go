//go:build linux

package dns

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Upstream are the servers that know the rest of the world: those asked for (`--dns`), or those of the host's
// resolv.conf, read again whenever the file changes.
type Upstream struct {
	Servers []netip.Addr `json:"servers,omitempty"`
	File    string       `json:"file,omitempty"` // the host's /etc/resolv.conf
	Port    uint16       `json:"port,omitempty"` // 0: 53

	patience time.Duration // 0: patience

	mu      sync.Mutex
	changed time.Time
	read    []netip.Addr
}

// tries and patience are resolv.conf(5)'s defaults, a little less patient: each server is asked twice.
const (
	tries    = 2
	patience = 2500 * time.Millisecond
)

// Servers of a resolv.conf(5), at most three as the C library takes.
func parseServers(text string) []netip.Addr {
	var out []netip.Addr
	for _, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "nameserver" && len(out) < 3 {
			if a, err := netip.ParseAddr(f[1]); err == nil {
				out = append(out, a)
			}
		}
	}
	return out
}

func (u *Upstream) servers() []netip.Addr {
	if len(u.Servers) > 0 || u.File == "" {
		return u.Servers
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	fi, err := os.Stat(u.File)
	if err != nil {
		return u.read
	}
	if !fi.ModTime().Equal(u.changed) {
		if b, err := os.ReadFile(u.File); err == nil {
			u.read, u.changed = parseServers(string(b)), fi.ModTime()
		}
	}
	return u.read
}

// Ask gives a question to the servers in turn and returns the first response, with the question's id; nil when none
// came. The question travels with an id of our own and from a port of its own, so that a response cannot be guessed.
func (u *Upstream) Ask(query []byte, tcp bool) []byte {
	if len(query) < 12 {
		return nil
	}
	q := append([]byte(nil), query...)
	for range tries {
		for _, server := range u.servers() {
			id := uint16(rand.Uint32())
			q[0], q[1] = byte(id>>8), byte(id)
			out := u.exchange(server, q, tcp)
			if len(out) >= 12 && out[0] == q[0] && out[1] == q[1] && out[2]&0x80 != 0 {
				out[0], out[1] = query[0], query[1]
				return out
			}
		}
	}
	return nil
}

func (u *Upstream) exchange(server netip.Addr, query []byte, tcp bool) []byte {
	conn := u.dial(server, tcp)
	if conn == nil {
		return nil
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(cmp.Or(u.patience, patience)))
	if tcp {
		if writeMessage(conn, query) != nil {
			return nil
		}
		out, _ := readMessage(conn)
		return out
	}
	if _, err := conn.Write(query); err != nil {
		return nil
	}
	buf := make([]byte, 65535)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil
		}
		// Somebody else's datagram with another id is not an answer, and no reason to stop waiting for it.
		if n >= 12 && buf[0] == query[0] && buf[1] == query[1] {
			return append([]byte(nil), buf[:n]...)
		}
	}
}

// dial connects in the monitor's own namespace: the host's.
func (u *Upstream) dial(server netip.Addr, tcp bool) *os.File {
	port := int(u.Port)
	if port == 0 {
		port = 53
	}
	family, kind := unix.AF_INET, unix.SOCK_DGRAM
	var sa unix.Sockaddr
	if server.Is4() {
		sa = &unix.SockaddrInet4{Port: port, Addr: server.As4()}
	} else {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: server.As16()}
	}
	if tcp {
		kind = unix.SOCK_STREAM
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil
	}
	// A connection still in progress is waited for by the first write, which the poller holds back.
	return os.NewFile(uintptr(fd), "dns server")
}
