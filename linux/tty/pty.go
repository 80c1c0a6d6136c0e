//go:build linux

package tty

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// ptmxDevice is the number of the device that makes a pty at each open (Documentation/admin-guide/devices.txt).
const ptmxDevice = 5<<8 | 2

// Open makes a pty of width columns and height rows in the devpts file system whose root folder devpts is, an open
// handle; nil means the one at /dev/pts. Both ends are in blocking mode and become nobody's controlling terminal.
//
// The slave's name is never looked up. A container that controls its /dev/pts could have put something else under it,
// which would then be mounted over /dev/console and be made writable (CVE-2025-52565): the kernel itself opens the
// other end of the master (TIOCGPTPEER, Linux 4.13). The ptmx must be the character device 5:2 in a devpts.
func Open(devpts *os.File, width, height uint16) (master, slave *os.File, err error) {
	if devpts == nil {
		if devpts, err = os.OpenFile("/dev/pts", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return nil, nil, errs.Wrap("open terminal", err)
		}
		defer devpts.Close()
	}
	err = trace.Step("open ptmx", "a terminal for the container; its other end is asked of the kernel, not looked up by a name",
		"devpts", devpts.Name(), "columns", int(width), "rows", int(height)).Do(func() (err error) {
		master, slave, err = open(int(devpts.Fd()), width, height)
		return err
	})
	return master, slave, errs.Wrap("open terminal", err)
}

func open(devpts int, width, height uint16) (master, slave *os.File, err error) {
	fd, err := unix.Openat(devpts, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("open ptmx", err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	defer func() {
		if err != nil {
			master.Close()
			master = nil
		}
	}()
	if err := checkPtmx(fd); err != nil {
		return master, nil, err
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return master, nil, os.NewSyscallError("unlock slave", err)
	}
	if err := SetSize(master, width, height); err != nil {
		return master, nil, err
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		return master, nil, os.NewSyscallError("number of pty", err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return master, nil, os.NewSyscallError("open peer of pty", errno)
	}
	return master, os.NewFile(peer, fmt.Sprintf("/dev/pts/%d", n)), nil
}

// checkPtmx makes sure that an open file is the door to a devpts and no device or file with its name.
func checkPtmx(fd int) error {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	if fs.Type != unix.DEVPTS_SUPER_MAGIC || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != ptmxDevice {
		return errs.New(errs.Invalid, "", fmt.Errorf("ptmx is not the device 5:2 of a devpts file system"))
	}
	return nil
}

// TakeControl makes a slave the controlling terminal of the calling process in a new session (setsid(2), TIOCSCTTY), so
// that Ctrl-C reaches the container's processes and its shell has job control. The process must not lead a process
// group already; one that was just forked does not.
func TakeControl(slave *os.File) error {
	err := trace.Step("setsid", "Ctrl-C and job control work in a session of its own, at this terminal", "tty", slave.Name()).Do(func() error {
		if _, err := unix.Setsid(); err != nil {
			return os.NewSyscallError("setsid", err)
		}
		return control(slave, func(fd int) error { return os.NewSyscallError("TIOCSCTTY", unix.IoctlSetInt(fd, unix.TIOCSCTTY, 0)) })
	})
	return errs.Wrap("take control of "+slave.Name(), err)
}

// SetSize tells a terminal, by either end, how many columns and rows its window has. Its foreground processes get
// SIGWINCH when that changes. A size of 0 columns or rows means "unknown" to programs and is what a new pty has.
func SetSize(f *os.File, width, height uint16) error {
	return control(f, func(fd int) error {
		return os.NewSyscallError("set window size", unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}))
	})
}

// SetOutput switches output modes of a terminal on and off (termios(3), c_oflag).
func SetOutput(f *os.File, on, off uint32) error {
	return control(f, func(fd int) error {
		t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			t.Oflag = t.Oflag&^off | on
			err = unix.IoctlSetTermios(fd, unix.TCSETS, t)
		}
		return os.NewSyscallError("set output of terminal", err)
	})
}

// control calls fn with the descriptor of a file, whose mode (blocking or not) stays as it is; that is not so with Fd.
func control(f *os.File, fn func(fd int) error) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := c.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}
