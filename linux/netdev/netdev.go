//go:build linux

package netdev

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/osthread"
	"github.com/berth-containers/berth/internal/trace"
)

// CheckName refuses what the kernel takes for no device's name (dev_valid_name in net/core/dev.c). With a template, one "%d"
// stands for the lowest free number.
func CheckName(name string, template bool) error {
	plain := name
	if template {
		plain = strings.Replace(name, "%d", "0", 1)
	}
	if plain == "" || len(name) >= unix.IFNAMSIZ || plain == "." || plain == ".." || strings.ContainsAny(plain, "/:% \t\n\v\f\r\x00") {
		return errs.New(errs.Invalid, "use network device", fmt.Errorf("%q is no device's name", name))
	}
	return nil
}

// Move moves a device of the calling thread's namespace into another and gives it the name there that it is to have, its
// addresses, as far as they are valid beyond the link, and sets it up (runtime-spec, config-linux.md, "Network Devices"). Its
// MTU and hardware address stay.
func Move(name, to string, ns *os.File) error {
	err := trace.Step("RTM_NEWLINK IFLA_NET_NS_FD", "a device of the host becomes the container's", "device", name, "name", to).Do(func() error {
		index, err := find(name)
		if err != nil {
			return err
		}
		addresses, err := addressesOf(index)
		if err != nil {
			return err
		}
		// A name that is taken would be noticed when the device is there already, and not here any more.
		if err := inside(ns, func() (err error) { to, err = free(to); return err }); err != nil {
			return err
		}
		m := newMessage(unix.RTM_NEWLINK, 0, linkHeader(index, 0))
		m.attribute(unix.IFLA_NET_NS_FD, binary.NativeEndian.AppendUint32(nil, uint32(ns.Fd())))
		m.attribute(unix.IFLA_IFNAME, append([]byte(to), 0))
		if err := m.send(); err != nil {
			return err
		}
		return inside(ns, func() error { return settle(to, addresses) })
	})
	return errs.Wrap("move network device "+name, err)
}

// Exists reports whether the calling thread's namespace has a device; the error is of kind NotFound when it has not.
func Exists(name string) error {
	_, err := find(name)
	return errs.Wrap("use network device "+name, err)
}

// inside runs fn on a thread in a network namespace.
func inside(ns *os.File, fn func() error) error {
	return osthread.Run(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return fn()
	})
}

// free makes a name of a template, and refuses one that is taken.
func free(name string) (string, error) {
	for n := range 1 << 10 {
		try := strings.Replace(name, "%d", strconv.Itoa(n), 1)
		switch _, err := find(try); {
		case errs.Is(err, errs.NotFound):
			return try, nil
		case err != nil:
			return "", err
		case try == name:
			return "", errs.New(errs.Conflict, "", fmt.Errorf("the container's namespace has a device %s already", name))
		}
	}
	return "", errs.New(errs.Conflict, "", fmt.Errorf("no number is free for %s", name))
}

// find is the number of a device.
func find(name string) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r)
	}
	if err == unix.ENODEV {
		return 0, errs.New(errs.NotFound, "", errors.New("there is no such device"))
	}
	if err != nil {
		return 0, os.NewSyscallError("SIOCGIFINDEX", err)
	}
	return r.Uint32(), nil
}

// settle gives a device its addresses and sets it up.
func settle(name string, addresses []address) error {
	index, err := find(name)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		binary.NativeEndian.PutUint32(a.header[4:], index)
		m := newMessage(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, a.header)
		for _, attr := range a.attributes {
			m.attribute(attr.Attr.Type, attr.Value)
		}
		if err := m.send(); err != nil {
			return fmt.Errorf("add address: %w", err)
		}
	}
	return newMessage(unix.RTM_NEWLINK, 0, linkHeader(index, unix.IFF_UP)).send()
}

// address is one of a device's, as the kernel has told it: struct ifaddrmsg and attributes.
type address struct {
	header     []byte
	attributes []syscall.NetlinkRouteAttr
}

// addressesOf lists those that are valid everywhere (RT_SCOPE_UNIVERSE).
func addressesOf(index uint32) (out []address, err error) {
	b, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC)
	if err != nil {
		return nil, os.NewSyscallError("RTM_GETADDR", err)
	}
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil, os.NewSyscallError("RTM_GETADDR", err)
	}
	for i := range messages {
		m := &messages[i]
		if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg || m.Data[3] != unix.RT_SCOPE_UNIVERSE || binary.NativeEndian.Uint32(m.Data[4:]) != index {
			continue
		}
		all, err := syscall.ParseNetlinkRouteAttr(m)
		if err != nil {
			return nil, os.NewSyscallError("RTM_GETADDR", err)
		}
		a := address{header: m.Data[:unix.SizeofIfAddrmsg]}
		for _, attr := range all {
			switch attr.Attr.Type {
			case unix.IFA_ADDRESS, unix.IFA_LOCAL, unix.IFA_BROADCAST, unix.IFA_FLAGS, unix.IFA_CACHEINFO, unix.IFA_RT_PRIORITY:
				a.attributes = append(a.attributes, attr)
			}
		}
		out = append(out, a)
	}
	return out, nil
}

// linkHeader is struct ifinfomsg; the flag is set.
func linkHeader(index, flag uint32) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(b[4:], index)
	binary.NativeEndian.PutUint32(b[8:], flag)
	binary.NativeEndian.PutUint32(b[12:], flag) // change
	return b
}

// message is one request.
type message []byte

func newMessage(kind, flags uint16, header []byte) *message {
	m := message(make([]byte, unix.SizeofNlMsghdr, 256))
	binary.NativeEndian.PutUint16(m[4:], kind)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	m = append(m, header...)
	return &m
}

func (m *message) attribute(kind uint16, value []byte) {
	b := binary.NativeEndian.AppendUint16(*m, uint16(unix.SizeofRtAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	for len(b)%unix.RTA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	*m = b
}

// send sends the request and reads the answer.
func (m *message) send() error {
	binary.NativeEndian.PutUint32(*m, uint32(len(*m)))
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, *m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, os.Getpagesize())
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	answers, err := syscall.ParseNetlinkMessage(buf[:n])
	if err != nil || len(answers) == 0 || answers[0].Header.Type != unix.NLMSG_ERROR || len(answers[0].Data) < 4 {
		return errors.New("the kernel's answer cannot be read")
	}
	if code := int32(binary.NativeEndian.Uint32(answers[0].Data)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}
