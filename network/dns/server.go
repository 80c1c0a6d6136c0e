//go:build linux

package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Address is where a container finds its resolver, as with Docker.
const Address = "127.0.0.11"

var address = [4]byte{127, 0, 0, 11}

// Server answers one container.
type Server struct {
	zone     Zone
	upstream *Upstream // nil: no names from outside (an internal network, CVE-2024-29018)
	udp, tcp *os.File
	egress   *Egress // nil: every name may be asked for
	peers    peers
	busy     chan struct{} // bounds how many questions are being forwarded
}

// pending is how many questions a container may have open with other servers; more are refused, not queued.
const pending = 100

// Listen opens the sockets in a container's network namespace. Nothing is answered before Serve.
func Listen(ns *os.File, zone Zone, upstream *Upstream, egress *Egress) (*Server, error) {
	s := &Server{zone: zone, upstream: upstream, egress: egress, busy: make(chan struct{}, pending)}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine: it is in the container's namespace
		err := trace.Step("bind", "names are answered inside the container, by its monitor outside", "address", Address+":53").
			Do(func() error { return s.open(ns) })
		done <- errs.Wrap("listen on "+Address+" in the container", err)
	}()
	if err := <-done; err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) open(ns *os.File) (err error) {
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return err
	}
	here := &unix.SockaddrInet4{Port: 53, Addr: address}
	if s.udp, err = socket(unix.SOCK_DGRAM, here, unix.SO_REUSEADDR); err != nil {
		return err
	}
	if s.tcp, err = socket(unix.SOCK_STREAM, here, unix.SO_REUSEADDR); err != nil {
		return err
	}
	if err := unix.Listen(int(s.tcp.Fd()), 64); err != nil || s.egress == nil {
		return err
	}
	return s.egress.open()
}

// socket is bound, and in the runtime's poller: waiting on it costs no thread.
func socket(kind int, at *unix.SockaddrInet4, option int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1)
	if err := unix.Bind(fd, at); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "dns"), nil
}

// Close ends Serve.
func (s *Server) Close() {
	for _, f := range []*os.File{s.udp, s.tcp} {
		if f != nil {
			f.Close()
		}
	}
	s.peers.Lock()
	defer s.peers.Unlock()
	for _, f := range s.peers.answering {
		f.Close()
	}
}

// Serve answers until Close.
func (s *Server) Serve() {
	go s.serveTCP()
	s.Reach()
	if s.egress != nil {
		go s.egress.watch()
	}
	buf := make([]byte, 4096)
	for {
		n, from, err := receive(s.udp, buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || from == nil {
			continue
		}
		query := buf[:n]
		if out, q := s.answer(query); out != nil {
			s.reply(query, out, from)
		} else if q != nil {
			s.forwardUDP(append([]byte(nil), query...), from)
		}
	}
}

// answer is what is known here, and what may not be asked.
func (s *Server) answer(query []byte) ([]byte, *dnsmessage.Question) {
	out, q := s.zone.answer(query)
	if s.egress == nil || q == nil || out != nil && q.Type == dnsmessage.TypePTR {
		return out, q
	}
	if s.egress.refuses(q) {
		return refuse(query, dnsmessage.RCodeRefused), q
	}
	if out != nil {
		s.egress.admit(q, out)
	}
	return out, q
}

// receive is recvfrom(2) that waits in the poller.
func receive(f *os.File, buf []byte) (n int, from unix.Sockaddr, err error) {
	rc, e := f.SyscallConn()
	if e != nil {
		return 0, nil, os.ErrClosed
	}
	e = rc.Read(func(fd uintptr) bool {
		n, from, err = unix.Recvfrom(int(fd), buf, 0)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if e != nil {
		return 0, nil, os.ErrClosed
	}
	return n, from, err
}

func (s *Server) reply(query, out []byte, to unix.Sockaddr) {
	if len(out) > limit(query) {
		out = truncated(query)
	}
	send(s.udp, out, to)
}

func send(f *os.File, out []byte, to unix.Sockaddr) {
	if rc, err := f.SyscallConn(); err == nil && out != nil {
		_ = rc.Write(func(fd uintptr) bool { return unix.Sendto(int(fd), out, 0, to) != unix.EAGAIN })
	}
}

func (s *Server) forwardUDP(query []byte, from unix.Sockaddr) {
	select {
	case s.busy <- struct{}{}:
	default:
		s.reply(query, refuse(query, dnsmessage.RCodeServerFailure), from)
		return
	}
	go func() {
		defer func() { <-s.busy }()
		s.reply(query, s.ask(query, false), from)
	}()
}

// ask forwards a question; whatever goes wrong, there is a response.
func (s *Server) ask(query []byte, tcp bool) []byte {
	out := s.askPeers(query)
	if out == nil && s.upstream == nil {
		return refuse(query, dnsmessage.RCodeNameError)
	}
	if out == nil {
		out = s.upstream.Ask(query, tcp)
	}
	if out != nil {
		if s.egress != nil {
			if q := question(query); q != nil {
				s.egress.admit(q, out)
			}
		}
		return out
	}
	return refuse(query, dnsmessage.RCodeServerFailure)
}

func (s *Server) serveTCP() {
	for {
		var fd int
		rc, err := s.tcp.SyscallConn()
		if err != nil {
			return
		}
		var e error
		err = rc.Read(func(l uintptr) bool {
			fd, _, e = unix.Accept4(int(l), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			return e != unix.EAGAIN && e != unix.EINTR
		})
		if err != nil {
			return
		}
		if e != nil {
			time.Sleep(10 * time.Millisecond) // no descriptors left: do not spin
			continue
		}
		conn := os.NewFile(uintptr(fd), "dns client")
		select {
		case s.busy <- struct{}{}:
			go func() {
				defer func() { conn.Close(); <-s.busy }()
				s.serveConn(conn)
			}()
		default:
			conn.Close()
		}
	}
}

// serveConn answers the questions of one TCP connection in turn (RFC 7766); an idle client is sent away.
func (s *Server) serveConn(conn *os.File) {
	for {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		query, err := readMessage(conn)
		if err != nil {
			return
		}
		out, q := s.answer(query)
		if out == nil && q != nil {
			out = s.ask(query, true)
		}
		if out == nil || writeMessage(conn, out) != nil {
			return
		}
	}
}

// readMessage and writeMessage carry a message with its length in front (RFC 1035 section 4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeMessage(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}
