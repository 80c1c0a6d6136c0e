//go:build linux

package mount

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Procfs is a /proc that was checked to be one. Files below it are opened without crossing into another mount and
// without following links, so that neither a tmpfs over /proc nor a mount over one of its files can catch a write that
// is meant for the kernel (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881).
//
// Where such a mount is in the way, a procfs of our own is used that is attached nowhere: nothing can be mounted over
// it.
type Procfs struct {
	dir *os.File
	own bool // mounted by us, attached nowhere
}

// procRoot is the inode number of procfs's root (include/linux/proc_fs.h).
const procRoot = 1

// OpenProcfs opens and checks /proc (3 µs), and makes a procfs of our own if there is none (50 µs).
func OpenProcfs() (*Procfs, error) {
	f, err := os.OpenFile("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		var p *Procfs
		if p, err = ProcfsAt(f); err == nil {
			return p, nil
		}
	}
	own, e := ownProcfs()
	if e != nil {
		return nil, errs.Wrap("open /proc", fmt.Errorf("%w; and mounting one is not possible: %w", err, e))
	}
	return own, nil
}

// ProcfsAt checks that an open folder, which it takes over, is the root of a procfs: that of a container's own that was
// just mounted, for instance. Anything else is an error of kind Invalid, and the folder is closed.
func ProcfsAt(dir *os.File) (*Procfs, error) {
	var st unix.Stat_t
	err := checkProcfs(dir)
	if err == nil {
		err = unix.Fstat(int(dir.Fd()), &st)
	}
	if err == nil && st.Ino != procRoot {
		err = fmt.Errorf("it is a part of a procfs, not its root")
	}
	if err != nil {
		dir.Close()
		return nil, errs.New(errs.Invalid, "use "+dir.Name()+" as /proc", err)
	}
	return &Procfs{dir: dir}, nil
}

func ownProcfs() (*Procfs, error) {
	t, err := Filesystem("proc", "proc", Options{Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC})
	if err != nil {
		return nil, err
	}
	p, err := ProcfsAt(t.f)
	if err == nil {
		p.own = true
	}
	return p, err
}

// Close gives the handle back.
func (p *Procfs) Close() error { return p.dir.Close() }

// Open opens a file by its name below /proc ("thread-self/attr/exec", "sys/net/ipv4/ip_forward").
func (p *Procfs) Open(name string, flags int) (*os.File, error) {
	f, err := p.open(name, flags)
	if err == unix.EXDEV && !p.own { // something is mounted on the way
		var own *Procfs
		if own, err = ownProcfs(); err == nil {
			defer own.Close()
			f, err = own.open(name, flags)
		}
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/proc/" + name, Err: err}
	}
	return f, nil
}

// beneath is how all look-ups in procfs are bounded.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS

func (p *Procfs) open(name string, flags int) (*os.File, error) {
	// "self" and "thread-self" are links of procfs itself; behind them no further link is followed.
	first, rest, ok := strings.Cut(name, "/")
	if !ok || first != "self" && first != "thread-self" {
		return p.openBelow(p.dir, name, flags, beneath|unix.RESOLVE_NO_SYMLINKS)
	}
	dir, err := p.openBelow(p.dir, first, unix.O_PATH|unix.O_DIRECTORY, beneath)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return p.openBelow(dir, rest, flags, beneath|unix.RESOLVE_NO_SYMLINKS)
}

// openBelow returns bare errnos; EXDEV says that this /proc cannot be trusted with the name.
func (p *Procfs) openBelow(dir *os.File, name string, flags int, resolve uint64) (*os.File, error) {
	flags |= unix.O_CLOEXEC
	if flags&unix.O_PATH == 0 { // which takes no other flags
		flags |= unix.O_NOCTTY
	}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &unix.OpenHow{Flags: uint64(flags), Resolve: resolve})
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), "/proc/"+name), nil
		case unix.EINTR, unix.EAGAIN:
			continue
		case unix.ENOSYS, unix.EPERM: // Linux before 5.6, or an outer filter that does not know the call
			if !p.own {
				return nil, unix.EXDEV // without the call a mount on the way cannot be told for sure
			}
			return stepsBelow(dir, name, flags, resolve)
		}
		return nil, err
	}
}

// stepsBelow is openBelow without openat2, in a procfs of our own. No step follows a link but that of "self" or
// "thread-self", which is read and taken as steps.
func stepsBelow(dir *os.File, name string, flags int, resolve uint64) (*os.File, error) {
	if resolve&unix.RESOLVE_NO_SYMLINKS == 0 {
		text, err := readlinkAt(dir, name)
		if err != nil {
			return nil, err
		}
		name = text
	}
	at, steps := dir, strings.Split(name, "/")
	for i, step := range steps {
		if step == ".." {
			return nil, unix.EXDEV
		}
		how := unix.O_PATH | unix.O_DIRECTORY
		if i == len(steps)-1 {
			how = flags
		}
		next, err := openAt(at, step, how)
		if at != dir {
			at.Close()
		}
		if err != nil {
			return nil, errors.Unwrap(err)
		}
		at = next
	}
	return at, nil
}

// checkProcfs makes sure that a file lies in some procfs.
func checkProcfs(f *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return err
	}
	if fs.Type != unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("it is no procfs")
	}
	return nil
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

// SysPath is where below /proc a kernel parameter is. In its name, as in sysctl(8), whichever of "." and "/" comes
// first separates, and the other stands for itself: "net.ipv4.conf.eth0/1.forwarding" and
// "net/ipv4/conf/eth0.1/forwarding" are the same. A name with an empty part, "." or "..", or a byte that no parameter
// has (CVE-2022-0811: one parameter that carries a second behind a "+") is an error of kind Invalid.
func SysPath(name string) (string, error) {
	bad := func(why string) (string, error) {
		return "", errs.New(errs.Invalid, fmt.Sprintf("find kernel parameter %q", name), errors.New(why))
	}
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("._-/@:", c) >= 0:
		default:
			return bad("it has a character that no parameter has")
		}
	}
	path := name
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '.' {
		path = strings.Map(func(c rune) rune {
			switch c {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return c
		}, name)
	}
	for _, part := range strings.Split(path, "/") {
		if part == "" || part == "." || part == ".." {
			return bad("a part of it is empty or leads elsewhere")
		}
	}
	return "sys/" + path, nil
}

// OpenSys opens a kernel parameter ("net.ipv4.ip_forward") of the calling thread's namespaces; see [SysPath] for names.
func (p *Procfs) OpenSys(name string, flags int) (*os.File, error) {
	path, err := SysPath(name)
	if err != nil {
		return nil, err
	}
	return p.Open(path, flags)
}

// SetSys sets a kernel parameter. One that this kernel does not have is an error of kind Unsupported, a value that it
// refuses one of kind Invalid.
func (p *Procfs) SetSys(name, value, why string) error {
	err := trace.Step("write", why, "sysctl", name, "value", value).Do(func() error {
		f, err := p.OpenSys(name, unix.O_WRONLY)
		if err != nil {
			return err
		}
		_, err = f.WriteString(value)
		if e := f.Close(); err == nil {
			err = e
		}
		return err
	})
	op := "set sysctl " + name + " to " + value
	switch {
	case errors.Is(err, unix.ENOENT):
		return errs.New(errs.Unsupported, op, fmt.Errorf("this kernel has no such parameter: %w", err))
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE):
		return errs.New(errs.Invalid, op, err)
	}
	return errs.Wrap(op, err)
}
