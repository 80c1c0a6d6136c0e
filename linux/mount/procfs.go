//go:build linux

package mount

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Procfs is a /proc that was checked to be one. Files below it are opened without crossing into another mount and
// without following links, so that neither a tmpfs over /proc nor a mount over one of its files can catch a write that
// is meant for the kernel (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881).
type Procfs struct{ dir *os.File }

// procRoot is the inode number of procfs's root (include/linux/proc_fs.h).
const procRoot = 1

// OpenProcfs opens and checks /proc.
func OpenProcfs() (*Procfs, error) {
	f, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errs.Wrap("open /proc", err)
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		f.Close()
		return nil, errs.New(errs.Invalid, "open /proc", fmt.Errorf("it is no procfs"))
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Ino != procRoot {
		f.Close()
		return nil, errs.New(errs.Invalid, "open /proc", fmt.Errorf("it is a part of a procfs, not its root"))
	}
	return &Procfs{f}, nil
}

// Close gives the handle back.
func (p *Procfs) Close() error { return p.dir.Close() }

// Open opens a file by its name below /proc ("thread-self/attr/exec", "sys/net/ipv4/ip_forward").
func (p *Procfs) Open(name string, flags int) (*os.File, error) {
	const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS
	// "self" and "thread-self" are links of procfs itself; behind them no further link is followed.
	for _, self := range []string{"thread-self", "self"} {
		rest, ok := strings.CutPrefix(name, self+"/")
		if !ok {
			continue
		}
		dir, err := p.openat2(int(p.dir.Fd()), self, unix.O_PATH|unix.O_DIRECTORY, beneath)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: "/proc/" + self, Err: err}
		}
		defer dir.Close()
		f, err := p.openat2(int(dir.Fd()), rest, flags, beneath|unix.RESOLVE_NO_SYMLINKS)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: "/proc/" + name, Err: err}
		}
		return f, nil
	}
	f, err := p.openat2(int(p.dir.Fd()), name, flags, beneath|unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/proc/" + name, Err: err}
	}
	return f, nil
}

func (p *Procfs) openat2(dir int, name string, flags int, resolve uint64) (*os.File, error) {
	flags |= unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 { // which takes no other flags
		flags |= unix.O_NOCTTY
	}
	for {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: uint64(flags), Resolve: resolve})
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), "/proc/"+name), nil
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.ENOSYS:
			fd, err = unix.Openat(dir, name, flags|unix.O_NOFOLLOW, 0)
			if err != nil {
				return nil, err
			}
			return checkProcfs(os.NewFile(uintptr(fd), "/proc/"+name))
		}
		return nil, err
	}
}

// checkProcfs is what can be checked without openat2: the file lies in some procfs.
func checkProcfs(f *os.File) (*os.File, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		f.Close()
		return nil, fmt.Errorf("it is not in a procfs")
	}
	return f, nil
}

// Write writes to a file below /proc in one call.
func (p *Procfs) Write(name, value string) error {
	f, err := p.Open(name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
