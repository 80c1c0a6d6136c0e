//go:build linux

package mount

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Root is a folder that bounds every look-up below it: "..", absolute symbolic links and links that somebody swaps in
// meanwhile end inside (CVE-2017-1002101, CVE-2021-30465, CVE-2024-45310).
type Root struct{ dir *os.File }

// OpenRoot opens a folder as the bound of look-ups.
func OpenRoot(path string) (*Root, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errs.Wrap("open root", err)
	}
	return &Root{f}, nil
}

// RootAt bounds look-ups by an open folder, which it takes over.
func RootAt(dir *os.File) *Root { return &Root{dir} }

// Close gives the handle back.
func (r *Root) Close() error { return r.dir.Close() }

// Dir is the root's own handle.
func (r *Root) Dir() *os.File { return r.dir }

// Path is the name the root was opened by, for messages.
func (r *Root) Path() string { return r.dir.Name() }

// FD is the root's descriptor.
func (r *Root) FD() int { return int(r.dir.Fd()) }

// Open opens what a path means inside of the root; links are followed inside. flags are those of openat(2), O_CREAT is
// not for here: see Create.
func (r *Root) Open(name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	rel := relative(name)
	for try := 0; ; try++ {
		fd, err := unix.Openat2(r.FD(), rel, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), filepath.Join(r.Path(), name)), nil
		case err == unix.EINTR || err == unix.EAGAIN && try < 128: // something below was renamed meanwhile
			continue
		case err == unix.ENOSYS || err == unix.EPERM && try == 0: // no openat2, or an outer filter that does not know it
			return r.openWithout(rel, flags)
		}
		return nil, &os.PathError{Op: "open", Path: filepath.Join(r.Path(), name), Err: err}
	}
}

// openWithout walks the path component by component, for kernels without openat2.
func (r *Root) openWithout(rel string, flags int) (*os.File, error) {
	h, err := pathrs.OpenatInRoot(r.dir, rel)
	if err != nil {
		return nil, err
	}
	if flags&unix.O_PATH != 0 && flags&unix.O_NOFOLLOW == 0 {
		return h, nil
	}
	defer h.Close()
	return pathrs.Reopen(h, flags)
}

// relative makes any path one below the root; the kernel does the rest.
func relative(name string) string {
	if name = strings.TrimLeft(name, "/"); name == "" {
		return "."
	}
	return name
}

// MkdirAll makes a folder and those above it, as far as they are missing, and returns its handle (O_PATH). A symbolic
// link on the way that leads nowhere is followed and what it names is made, inside.
func (r *Root) MkdirAll(name string, mode uint32) (*os.File, error) {
	dir, err := r.mkdirAll(path.Clean("/"+name), mode, 0)
	return dir, errs.Wrap("make folder "+name, err)
}

const maxLinks = 40 // as many links as the kernel follows

func (r *Root) mkdirAll(name string, mode uint32, links int) (*os.File, error) {
	if links > maxLinks {
		return nil, unix.ELOOP
	}
	f, err := r.Open(name, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, unix.ENOENT) || name == "/" {
		return f, err
	}
	parent, err := r.mkdirAll(path.Dir(name), mode, links)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	base := path.Base(name)
	switch err := unix.Mkdirat(int(parent.Fd()), base, mode); err {
	case nil:
		return openChild(parent, base, unix.O_DIRECTORY)
	case unix.EEXIST:
		if target, ok := danglingTarget(parent, base, path.Dir(name)); ok {
			return r.mkdirAll(target, mode, links+1)
		}
		return r.Open(name, unix.O_PATH|unix.O_DIRECTORY)
	default:
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
}

// openChild opens an entry of an open folder itself, never what it might link to.
func openChild(parent *os.File, base string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(parent.Name(), base), Err: err}
	}
	return os.NewFile(uintptr(fd), filepath.Join(parent.Name(), base)), nil
}

// danglingTarget reads a link and returns where it points, as a path inside of the root.
func danglingTarget(parent *os.File, base, dir string) (string, bool) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(parent.Fd()), base, buf)
	if err != nil {
		return "", false
	}
	target := string(buf[:n])
	if !path.IsAbs(target) {
		target = path.Join(dir, target)
	}
	return path.Clean("/" + target), true
}

// Create makes an empty file with the folders above it, unless something is there, and returns its handle (O_PATH).
func (r *Root) Create(name string, mode uint32) (*os.File, error) {
	f, err := r.create(path.Clean("/"+name), mode, 0)
	return f, errs.Wrap("make file "+name, err)
}

func (r *Root) create(name string, mode uint32, links int) (*os.File, error) {
	if links > maxLinks {
		return nil, unix.ELOOP
	}
	if f, err := r.Open(name, unix.O_PATH); !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	parent, err := r.mkdirAll(path.Dir(name), 0o755, links)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	base := path.Base(name)
	fd, err := unix.Openat(int(parent.Fd()), base, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, mode)
	switch err {
	case nil:
		unix.Close(fd)
		return openChild(parent, base, 0)
	case unix.EEXIST:
		if target, ok := danglingTarget(parent, base, path.Dir(name)); ok {
			return r.create(target, mode, links+1)
		}
		return r.Open(name, unix.O_PATH)
	}
	return nil, &os.PathError{Op: "create", Path: name, Err: err}
}

// parent opens the folder that an entry is in, links followed inside; the entry itself is not looked at.
func (r *Root) parent(name string) (*os.File, string, error) {
	name = path.Clean("/" + name)
	if name == "/" {
		return nil, "", fmt.Errorf("%s has no parent", name)
	}
	dir, err := r.MkdirAll(path.Dir(name), 0o755)
	return dir, path.Base(name), err
}

// Mknod makes a device, FIFO or socket; mode holds the type bits as for mknod(2).
func (r *Root) Mknod(name string, mode uint32, dev uint64) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Mknodat(int(dir.Fd()), base, mode, int(dev)); err != nil {
		return &os.PathError{Op: "mknod", Path: name, Err: err}
	}
	// The umask took bits away; the node is opened itself, not what a racing link might name.
	f, err := openChild(dir, base, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return chmodHandle(f, mode&0o7777)
}

// chmodHandle changes the mode of an O_PATH handle through its magic link, which fchmod(2) refuses.
func chmodHandle(f *os.File, mode uint32) error { return unix.Chmod(HandlePath(f), mode) }

// HandlePath is a name for an open handle that system calls without a descriptor take. It needs this process's own
// /proc, so it is for use before a container's mounts exist.
func HandlePath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// Symlink makes a symbolic link; what is there already stays.
func (r *Root) Symlink(target, name string) error {
	dir, base, err := r.parent(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Symlinkat(target, int(dir.Fd()), base); err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "symlink", Path: name, Err: err}
	}
	return nil
}

// Chown changes owner and group of what a handle names.
func Chown(f *os.File, uid, gid int) error {
	return unix.Fchownat(int(f.Fd()), "", uid, gid, unix.AT_EMPTY_PATH)
}

// Stat describes what a path means inside of the root.
func (r *Root) Stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := r.Open(name, unix.O_PATH)
	if err != nil {
		return st, err
	}
	defer f.Close()
	return st, unix.Fstat(int(f.Fd()), &st)
}

// ReadFile reads a regular file of at most max bytes. Anything else is refused before it is opened for reading: a FIFO
// would hang, a device could do anything (CVE-2024-9676).
func (r *Root) ReadFile(name string, max int64) ([]byte, error) {
	f, err := r.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errs.New(errs.Invalid, "read "+name, fmt.Errorf("it is no regular file"))
	}
	if fi.Size() > max {
		return nil, errs.New(errs.Invalid, "read "+name, fmt.Errorf("it is larger than %d bytes", max))
	}
	b := make([]byte, fi.Size())
	n, err := f.ReadAt(b, 0)
	if int64(n) == fi.Size() {
		err = nil
	}
	return b[:n], err
}
