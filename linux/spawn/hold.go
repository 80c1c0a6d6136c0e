//go:build linux && (amd64 || arm64)

package spawn

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Hold starts a process that does nothing but be there, without memory, files or signals of its own, until end is called
// or this process is gone, however it goes: it waits for the end of a pipe that nobody else has.
func Hold() (pid int, end func(), err error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, nil, os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[0])
	p := &Program{apart: true, free: true}
	buffer := new([1]byte)
	p.keep = append(p.keep, buffer)
	if pipe[0] > 0 {
		p.add("close_range", unix.SYS_CLOSE_RANGE, 0, uintptr(pipe[0]-1), 0)
	}
	p.add("close_range", unix.SYS_CLOSE_RANGE, uintptr(pipe[0]+1), uintptr(^uint32(0)), 0)
	p.add("read", unix.SYS_READ, uintptr(pipe[0]), uintptr(unsafe.Pointer(buffer)), 1)
	pid, pidfd, err := p.Start(nil) // a copy of this process, which never runs anything of Go
	if err != nil {
		unix.Close(pipe[1])
		return 0, nil, err
	}
	return pid, func() {
		unix.Close(pipe[1])
		_ = unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0)
		_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
		pidfd.Close()
	}, nil
}
