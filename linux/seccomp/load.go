//go:build linux

package seccomp

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Filter returns the instructions as the kernel takes them.
func (p *Program) Filter() []unix.SockFilter {
	out := make([]unix.SockFilter, len(p.Code)/8)
	for i := range out {
		b := p.Code[8*i:]
		out[i] = unix.SockFilter{Code: binary.NativeEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.NativeEndian.Uint32(b[4:])}
	}
	return out
}

// Load makes the filter binding for the calling thread and all that it becomes or starts. It needs no_new_privs or
// CAP_SYS_ADMIN. It returns the descriptor of the listener of a filter with SCMP_ACT_NOTIFY, bare, because the filter may
// stop any further call; otherwise -1.
func (p *Program) Load() (listener int, err error) {
	filter := p.Filter()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(p.Flags), uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return -1, errs.Wrap("load seccomp filter", errno)
	}
	if !p.Notify {
		return -1, nil
	}
	return int(fd), nil
}

// Supported reports whether the kernel has seccomp filters.
func Supported() bool {
	return unix.Prctl(unix.PR_GET_SECCOMP, 0, 0, 0, 0) == nil
}
