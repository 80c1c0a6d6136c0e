//go:build linux

package nft

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Messages and attributes of linux/netfilter/nfnetlink_log.h, which x/sys does not have.
const (
	logPacket, logConfig                     = 0, 1
	cfgCommand, cfgMode, cfgThreshold        = 1, 2, 5
	cfgBind, copyPacket               byte   = 1, 2
	attrPayload                       uint16 = 9
	logged                            uint32 = 80 // bytes of a packet: the headers
)

// OpenLog returns a socket on which the kernel tells of packets that a rule `log group N` has seen, in the calling
// thread's network namespace. It does not block; read it in the poller.
func OpenLog(group uint16) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	for _, a := range []struct {
		kind uint16
		data []byte
	}{
		{cfgCommand, []byte{cfgBind}},
		{cfgMode, append(binary.BigEndian.AppendUint32(nil, logged), copyPacket, 0)},
		{cfgThreshold, binary.BigEndian.AppendUint32(nil, 1)},
	} {
		var b builder
		at := b.header(unix.NFNL_SUBSYS_ULOG<<8|logConfig, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 1, unix.AF_UNSPEC, group)
		b.attribute(a.kind, a.data)
		b.endMessage(at)
		if err := exchange(fd, b); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return os.NewFile(uintptr(fd), "packets"), nil
}

// Logged calls fn with the beginning of each packet, from its IP header on, that a datagram of such a socket tells of.
func Logged(b []byte, fn func(packet []byte)) {
	for len(b) >= unix.SizeofNlMsghdr+4 {
		n := int(binary.NativeEndian.Uint32(b))
		if n < unix.SizeofNlMsghdr+4 || n > len(b) {
			return
		}
		if binary.NativeEndian.Uint16(b[4:]) == unix.NFNL_SUBSYS_ULOG<<8|logPacket {
			for as := b[unix.SizeofNlMsghdr+4 : n]; len(as) >= 4; {
				size, kind := int(binary.NativeEndian.Uint16(as)), binary.NativeEndian.Uint16(as[2:])
				if size < 4 || size > len(as) {
					break
				}
				if kind == attrPayload {
					fn(as[4:size])
				}
				as = as[min(align(size), len(as)):]
			}
		}
		b = b[min(align(n), len(b)):]
	}
}
