//go:build linux

package container

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// ErrStatusLost says that a container's first process has ended and that nobody can say how any more.
var ErrStatusLost = errors.New("how its program ended is not known")

// Adopt makes this process one that can wait for a container which another process has made: it opens a descriptor of
// the container's first process, which must be there: alive, or ended and not reaped yet.
func (c *Container) Adopt() error {
	fd, err := unix.PidfdOpen(c.Init, 0)
	if err != nil {
		return errs.Wrap("take over container "+c.ID, os.NewSyscallError("pidfd_open", err))
	}
	// The number is compared after it is held: it can have been given to another process before, and not since.
	if since, _ := StartTime(c.Init); since != c.Since {
		unix.Close(fd)
		return errs.Text(errs.Conflict, "container not running")
	}
	c.pidfd = os.NewFile(uintptr(fd), "pidfd")
	return nil
}

// Ended reports whether the first process of an adopted container has ended.
func (c *Container) Ended() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.pidfd.Fd()), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// patience is how long the new parent of an ended process may take to reap it.
const patience = 5 * time.Second

// waitForeign waits for the end of a process that is not a child of this one, by its descriptor. How it ended is in its
// stat file until its parent reaps it (proc(5), field 52), and behind the descriptor afterwards (PIDFD_INFO_EXIT, Linux
// 6.15).
func (c *Container) waitForeign() (unix.WaitStatus, error) {
	if c.pidfd == nil {
		return 0, errs.Wrap("wait for container "+c.ID, ErrStatusLost)
	}
	fd := int(c.pidfd.Fd())
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return 0, errs.Wrap("wait for container "+c.ID, os.NewSyscallError("poll", err))
		}
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if status, ok := zombieStatus(c.Init, c.Since); ok {
			return status, nil
		}
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		err := unix.IoctlPidfdInfo(fd, &info)
		if err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0 {
			return unix.WaitStatus(info.Exit_code), nil
		}
		if err != nil && err != unix.ESRCH || time.Now().After(end) {
			return 0, errs.Wrap("wait for container "+c.ID, ErrStatusLost)
		}
	}
}

// zombieStatus reads how a process ended that nobody has reaped yet.
func zombieStatus(pid int, since uint64) (unix.WaitStatus, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 50 || f[0] != "Z" || f[19] != strconv.FormatUint(since, 10) {
		return 0, false
	}
	code, err := strconv.ParseUint(f[49], 10, 32)
	return unix.WaitStatus(code), err == nil
}
