//go:build linux

package network

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/socket"
)

// Port is one published port: what arrives at HostIP:HostPort goes to ContainerPort of the container.
type Port struct {
	HostIP        netip.Addr `json:"HostIp,omitzero"`    // zero: every address of the host
	HostPort      uint16     `json:"HostPort,omitempty"` // 0: the kernel chooses
	ContainerPort uint16     `json:"ContainerPort"`
	Protocol      string     `json:"Protocol"`              // tcp, udp, sctp
	LAN           bool       `json:"LAN,omitempty"`         // only neighbours, and this host, reach it (PrivateRanges)
	HostPortEnd   uint16     `json:"HostPortEnd,omitempty"` // if not 0: any free one of HostPort to this one
}

func (p Port) String() string {
	host := "0.0.0.0"
	if p.HostIP.IsValid() {
		host = p.HostIP.String()
	}
	if p.LAN {
		return fmt.Sprintf("lan:%d->%d/%s", p.HostPort, p.ContainerPort, p.Protocol)
	}
	return fmt.Sprintf("%s->%d/%s", netip.AddrPortFrom(netip.MustParseAddr(host), p.HostPort), p.ContainerPort, p.Protocol)
}

// ParsePorts reads a -p value as Docker does: [[ip:][hostPort[-end]]:]containerPort[-end][/protocol], IPv6 in brackets.
// Instead of the ip, "lan" publishes for neighbours alone.
func ParsePorts(spec string) ([]Port, error) {
	bad := func(why string) ([]Port, error) {
		return nil, errs.Text(errs.Invalid, fmt.Sprintf("invalid publish specification %q: %s", spec, why))
	}
	rest, proto, ok := strings.Cut(spec, "/")
	if !ok {
		proto = "tcp"
	}
	proto = strings.ToLower(proto)
	if protocolNumber(proto) == 0 {
		return bad("invalid proto: " + proto)
	}
	i := strings.LastIndexByte(rest, ':')
	first, end, err := ParseRange(rest[i+1:])
	if err != nil {
		return bad("invalid containerPort: " + rest[i+1:])
	}
	var ip netip.Addr
	lan := false
	var hostFirst, hostEnd uint16
	if i >= 0 {
		host := rest[:i]
		if j := strings.LastIndexByte(host, ':'); j >= 0 {
			text := strings.TrimSuffix(strings.TrimPrefix(host[:j], "["), "]")
			if lan = text == "lan"; text != "" && !lan {
				if ip, err = netip.ParseAddr(text); err != nil {
					return bad("invalid IP address: " + text)
				}
			}
			host = host[j+1:]
		}
		if host != "" {
			if hostFirst, hostEnd, err = ParseRange(host); err != nil {
				return bad("invalid hostPort: " + host)
			}
			// A host range for one container port means "any free one of these".
			if hostEnd-hostFirst != end-first && end != first {
				return bad("invalid ranges specified for container and host Ports: " + rest[i+1:] + " and " + host)
			}
		}
	}
	var out []Port
	for n := 0; n <= int(end-first); n++ {
		p := Port{HostIP: ip.Unmap(), ContainerPort: first + uint16(n), Protocol: proto, LAN: lan}
		if hostFirst != 0 {
			p.HostPort = hostFirst + uint16(n)
			if end == first && hostEnd > hostFirst {
				p.HostPortEnd = hostEnd
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// ParseRange reads "80" or "80-90", 1 to 65535.
func ParseRange(s string) (first, end uint16, err error) {
	a, b, ok := strings.Cut(s, "-")
	if !ok {
		b = a
	}
	x, e1 := strconv.ParseUint(a, 10, 16)
	y, e2 := strconv.ParseUint(b, 10, 16)
	if e1 != nil || e2 != nil || x == 0 || y < x {
		return 0, 0, errs.Text(errs.Invalid, fmt.Sprintf("invalid port range %q", s))
	}
	return uint16(x), uint16(y), nil
}

func protocolNumber(name string) byte {
	switch name {
	case "tcp":
		return unix.IPPROTO_TCP
	case "udp":
		return unix.IPPROTO_UDP
	case "sctp":
		return unix.IPPROTO_SCTP
	}
	return 0
}

// publish reserves a port of this host in each family in which the container can be reached, the same number in all.
func (s *Store) publish(a *Attachment, e *Endpoint, p Port) error {
	first, last := p.HostPort, max(p.HostPort, p.HostPortEnd)
	tries := int(last-first) + 1
	if first == 0 {
		tries = 10 // the kernel's choice of one family may be taken in the other
	}
	var err error
	for try := range tries {
		if p.HostPort = first; first != 0 {
			p.HostPort += uint16(try)
		}
		var held []*os.File
		if held, err = s.reserveAll(e, &p); err == nil {
			p.HostPortEnd = 0
			a.Held = append(a.Held, held...)
			e.Ports = append(e.Ports, p)
			return nil
		}
		if !errs.Is(err, errs.Conflict) {
			break
		}
	}
	if p.HostPortEnd > 0 && errs.Is(err, errs.Conflict) {
		return errs.Text(errs.Conflict, fmt.Sprintf("Bind for ports %d-%d failed: all ports are allocated", first, last)).WithHint(errs.HintOf(err))
	}
	return err
}

// hostSides are the addresses of this host on which a port is reserved, one for each family in which the container can
// be reached.
func hostSides(e *Endpoint, p *Port) (out []netip.Addr) {
	if p.HostIP.IsValid() {
		return []netip.Addr{p.HostIP}
	}
	if e.Address.IsValid() {
		out = append(out, netip.IPv4Unspecified())
	}
	if e.Address6.IsValid() {
		out = append(out, netip.IPv6Unspecified())
	}
	return out
}

// bound says what the sockets that hold an endpoint's ports are bound to.
func bound(e *Endpoint) (out []socket.Bound) {
	for i := range e.Ports {
		for _, a := range hostSides(e, &e.Ports[i]) {
			out = append(out, socket.Bound{Protocol: protocolNumber(e.Ports[i].Protocol), At: netip.AddrPortFrom(a, e.Ports[i].HostPort)})
		}
	}
	return out
}

// reserveAll reserves a port once for each of its bindings.
func (s *Store) reserveAll(e *Endpoint, p *Port) (held []*os.File, err error) {
	for _, ip := range hostSides(e, p) {
		at := *p
		at.HostIP = ip
		fd, err := s.reserve(&at)
		if err != nil {
			for _, f := range held {
				f.Close()
			}
			return nil, err
		}
		p.HostPort = at.HostPort
		held = append(held, os.NewFile(uintptr(fd), p.String()))
	}
	return held, nil
}

// reserve binds a socket to the port's host side, so that no program of the host can take it while the container has
// it, and finds a number where none was asked for. The socket never listens; the firewall sends packets past it.
func (s *Store) reserve(p *Port) (fd int, err error) {
	kind := unix.SOCK_STREAM
	if p.Protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	family := unix.AF_INET
	var sa unix.Sockaddr
	if p.HostIP.Is6() {
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(p.HostPort), Addr: p.HostIP.As16()}
	} else {
		in := &unix.SockaddrInet4{Port: int(p.HostPort)}
		if p.HostIP.IsValid() {
			in.Addr = p.HostIP.As4()
		}
		sa = in
	}
	fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC, int(protocolNumber(p.Protocol)))
	if err == unix.EPROTONOSUPPORT {
		return -1, errs.Text(errs.Unsupported, "publish "+p.String()+": this kernel has no "+p.Protocol)
	}
	if err != nil {
		return -1, errs.Wrap("publish "+p.String(), err)
	}
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err = unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return -1, s.bindError(p, err)
	}
	if p.HostPort == 0 {
		p.HostPort = socket.BoundTo(fd).At.Port()
	}
	return fd, nil
}

func (s *Store) bindError(p *Port, err error) error {
	host := "0.0.0.0"
	if p.HostIP.IsValid() {
		host = p.HostIP.String()
	}
	at := fmt.Sprintf("%s:%d", host, p.HostPort)
	switch err {
	case unix.EADDRINUSE:
		e := errs.Text(errs.Conflict, "Bind for "+at+" failed: port is already allocated")
		if c := s.publisher(*p); c != "" {
			return e.WithHint("container " + c + " publishes it")
		}
		if who := PortHolder(p.Protocol, p.HostPort); who != "" {
			return e.WithHint("it is held by " + who)
		}
		return e
	case unix.EADDRNOTAVAIL:
		return errs.Text(errs.Invalid, "Bind for "+at+" failed: no interface of this host has the address "+host)
	}
	return errs.Wrap("bind "+at, err)
}

// publisher names the container that publishes a host port, or "". The record of one that is gone counts for nothing.
func (s *Store) publisher(p Port) string {
	all, err := s.List()
	if err != nil {
		return ""
	}
	for _, n := range all {
		ends, _ := s.Endpoints(n)
		for _, e := range ends {
			for _, q := range e.Ports {
				if q.HostPort == p.HostPort && q.Protocol == p.Protocol {
					return e.Name
				}
			}
		}
	}
	return ""
}
