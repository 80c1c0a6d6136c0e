//go:build linux

package logs

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Syslog is a server that gets each line as a message (RFC 3164, RFC 5424).
type Syslog struct {
	Network  string `json:"network"` // unix, unixgram, udp, tcp
	Address  string `json:"address"` // a socket's path, or ADDRESS:PORT without a name that must be looked up
	Facility int    `json:"facility"`
	Format   string `json:"format"` // "", rfc3164, rfc5424, rfc5424micro
	Tag      string `json:"tag"`
	Host     string `json:"host"` // this one's name
	Pid      int    `json:"pid"`
}

// again is how long a server that could not be reached is left alone.
const again = time.Second

type syslog struct {
	Syslog
	fd      int // -1: not connected
	to      unix.Sockaddr
	kind    int // of the socket
	flags   int
	tried   time.Time
	message []byte
}

func openSyslog(c Config) (*syslog, error) {
	s := &syslog{Syslog: *c.Syslog, fd: -1, kind: unix.SOCK_DGRAM}
	if c.NonBlocking {
		s.flags = unix.MSG_DONTWAIT
	}
	if s.Network == "unix" || s.Network == "tcp" {
		s.kind = unix.SOCK_STREAM
	}
	if s.Network == "unix" || s.Network == "unixgram" {
		s.to = &unix.SockaddrUnix{Name: s.Address}
	} else {
		at, err := netip.ParseAddrPort(s.Address)
		if err != nil {
			return nil, errs.Wrap("connect to syslog", err)
		}
		if ip := at.Addr().Unmap(); ip.Is4() {
			s.to = &unix.SockaddrInet4{Port: int(at.Port()), Addr: ip.As4()}
		} else {
			s.to = &unix.SockaddrInet6{Port: int(at.Port()), Addr: ip.As16()}
		}
	}
	return s, errs.Wrap("connect to syslog "+s.Network+"://"+s.Address, s.connect())
}

func (s *syslog) connect() error {
	family := unix.AF_UNIX
	switch s.to.(type) {
	case *unix.SockaddrInet4:
		family = unix.AF_INET
	case *unix.SockaddrInet6:
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, s.kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err = limitSending(fd); err == nil { // it limits connect(2), too: socket(7)
		err = unix.Connect(fd, s.to)
	}
	if err != nil {
		unix.Close(fd)
		return os.NewSyscallError("connect", err)
	}
	s.fd = fd
	return nil
}

func (s *syslog) line(stream byte, line []byte, at time.Time) {
	severity := 6 // info
	if stream == Stderr {
		severity = 3 // err
	}
	b := append(s.message[:0], '<')
	b = append(strconv.AppendInt(b, int64(s.Facility<<3|severity), 10), '>')
	tag := s.Tag + "[" + strconv.Itoa(s.Pid) + "]: "
	switch s.Format {
	case "rfc3164":
		b = append(at.Local().AppendFormat(b, time.Stamp), " "+s.Host+" "+tag...)
	case "rfc5424", "rfc5424micro":
		layout := time.RFC3339
		if s.Format == "rfc5424micro" {
			layout = "2006-01-02T15:04:05.000000Z07:00"
		}
		b = append(at.Local().AppendFormat(append(b, "1 "...), layout), " "+s.Host+" "+s.Tag+" "+strconv.Itoa(s.Pid)+" "+s.Tag+" - "...)
	default:
		if s.Network == "udp" || s.Network == "tcp" {
			b = append(at.Local().AppendFormat(b, time.RFC3339), " "+s.Host+" "+tag...)
		} else {
			b = append(at.Local().AppendFormat(b, time.Stamp), " "+tag...)
		}
	}
	b = append(b, bytes.TrimSuffix(line, []byte("\n"))...)
	if s.kind == unix.SOCK_STREAM {
		b = append(b, '\n')
	}
	s.message = b
	s.send(b)
}

// send sends a message. A server that went away is looked for again, now and then; what is said meanwhile is lost.
func (s *syslog) send(b []byte) {
	for range 2 {
		if s.fd < 0 {
			if time.Since(s.tried) < again {
				return
			}
			if s.tried = time.Now(); s.connect() != nil {
				return
			}
		}
		err := s.sendAll(b)
		if err == nil || errors.Is(err, unix.EAGAIN) && s.kind == unix.SOCK_DGRAM || errors.Is(err, unix.EMSGSIZE) {
			return
		}
		unix.Close(s.fd) // half a message may have gone into a stream
		s.fd = -1
	}
}

func (s *syslog) sendAll(b []byte) error {
	for len(b) > 0 {
		n, err := unix.SendmsgN(s.fd, b, nil, nil, s.flags|unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (s *syslog) flush() {}

func (s *syslog) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
}
