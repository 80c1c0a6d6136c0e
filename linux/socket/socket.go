//go:build linux

// Package socket tells one of several sockets by what it is bound to.
package socket

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Bound is what a socket is bound to.
type Bound struct {
	Protocol byte           `json:"protocol"` // IPPROTO_*
	At       netip.AddrPort `json:"at"`
}

// BoundTo asks the kernel (getsockname(2)). It is zero for what is no socket of IP.
func BoundTo(fd int) (b Bound) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return b
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return b
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		b = Bound{byte(protocol), netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))}
	case *unix.SockaddrInet6:
		b = Bound{byte(protocol), netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))}
	}
	return b
}
