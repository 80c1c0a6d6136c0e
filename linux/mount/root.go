//go:build linux

package mount

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Root is a folder that bounds every look-up below it: "..", absolute symbolic links and links that somebody swaps in
// meanwhile end inside (CVE-2017-1002101, CVE-2021-30465, CVE-2024-45310).
//
// Names are paths as a process with this root would use them, with or without a leading slash. What is found or made
// comes back as an open handle, so that nothing needs to be looked up by its name again.
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

// Open opens what a path means inside of the root; links are followed inside, unless the last is one and flags have
// O_NOFOLLOW. flags are those of openat(2); O_CREAT is not for here: see [Root.Create]. Errors are *os.PathError.
func (r *Root) Open(name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for try := 0; ; try++ {
		fd, err := unix.Openat2(r.FD(), relative(name), &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), filepath.Join(r.Path(), name)), nil
		case err == unix.EINTR, err == unix.EAGAIN && try < 128: // something on the way was renamed meanwhile
			continue
		case err == unix.ENOSYS, err == unix.EPERM: // Linux before 5.6, or an outer filter that does not know the call
			return r.openByComponent(relative(name), flags)
		}
		return nil, &os.PathError{Op: "open", Path: filepath.Join(r.Path(), name), Err: err}
	}
}

// openByComponent is Open without openat2. Each step opens one entry itself, in a folder that is held open, and ".." is
// the folder that the step before came from: nothing that is renamed meanwhile leads out of the root.
func (r *Root) openByComponent(rel string, flags int) (*os.File, error) {
	fail := func(err error) (*os.File, error) {
		return nil, &os.PathError{Op: "open", Path: filepath.Join(r.Path(), rel), Err: err}
	}
	way := []*os.File{r.dir} // the handle of each folder from the root on
	back := func(to int) {
		for ; len(way) > to; way = way[:len(way)-1] {
			way[len(way)-1].Close()
		}
	}
	defer func() { back(1) }()
	links := 0
	for rest := append(strings.Split(rel, "/"), "."); len(rest) > 1; {
		step := rest[0]
		rest = rest[1:]
		top := way[len(way)-1]
		if step == "" || step == "." || step == ".." { // of a folder only
			h, err := openAt(top, ".", unix.O_PATH|unix.O_DIRECTORY)
			if err != nil {
				return nil, err
			}
			h.Close()
			if step == ".." {
				back(max(1, len(way)-1))
			}
			continue
		}
		h, err := openAt(top, step, unix.O_PATH)
		if err != nil {
			return nil, err
		}
		way = append(way, h)
		text, err := readlinkAt(h, "")
		if err != nil || len(rest) == 1 && flags&unix.O_NOFOLLOW != 0 { // no link, or one that is meant itself
			continue
		}
		if links++; links > 40 {
			return fail(unix.ELOOP)
		}
		back(len(way) - 1)
		if path.IsAbs(text) {
			back(1)
		}
		rest = append(strings.Split(text, "/"), rest...)
	}
	end := way[len(way)-1]
	fi, err := end.Stat()
	switch {
	case err != nil:
		return nil, err
	case flags&unix.O_DIRECTORY != 0 && !fi.IsDir():
		return fail(unix.ENOTDIR)
	case flags&unix.O_PATH == 0 && fi.Mode()&os.ModeSymlink != 0:
		return fail(unix.ELOOP)
	case flags&unix.O_PATH == 0:
		return Reopen(end, flags&^unix.O_NOFOLLOW)
	case end == r.dir:
		return openAt(r.dir, ".", unix.O_PATH)
	}
	way = way[:len(way)-1]
	return end, nil
}

// openAt opens an entry of an open folder itself, never what it might link to.
func openAt(dir *os.File, entry string, flags int) (*os.File, error) {
	name := filepath.Join(dir.Name(), entry)
	for {
		fd, err := unix.Openat(int(dir.Fd()), entry, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EINTR:
			continue
		}
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
}

// relative makes any path one below the root; the kernel does the rest.
func relative(name string) string {
	if name = strings.TrimLeft(name, "/"); name == "" {
		return "."
	}
	return name
}

// Stat describes what a path means inside of the root, links followed.
func (r *Root) Stat(name string) (unix.Stat_t, error) { return r.stat(name, 0) }

// Lstat describes the entry itself, also when it is a symbolic link.
func (r *Root) Lstat(name string) (unix.Stat_t, error) { return r.stat(name, unix.O_NOFOLLOW) }

func (r *Root) stat(name string, flags int) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := r.Open(name, unix.O_PATH|flags)
	if err != nil {
		return st, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return st, nil
}

// Readlink returns the text of a symbolic link.
func (r *Root) Readlink(name string) (string, error) {
	f, err := r.Open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := readlinkAt(f, "")
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: f.Name(), Err: err}
	}
	return text, nil
}

// readlinkAt reads a link by its own handle ("") or as an entry of an open folder; EINVAL or ENOENT when it is none.
func readlinkAt(dir *os.File, entry string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(dir.Fd()), entry, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// ReadFile reads a regular file of at most max bytes. Anything else is refused before it is opened for reading: a FIFO
// would hang, a device could do anything (CVE-2024-9676). What it refuses is an error of kind Invalid.
func (r *Root) ReadFile(name string, max int64) ([]byte, error) {
	h, err := r.Open(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	fi, err := h.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, errs.New(errs.Invalid, "read "+name, fmt.Errorf("it is no regular file"))
	}
	if fi.Size() > max {
		return nil, errs.New(errs.Invalid, "read "+name, fmt.Errorf("it is larger than %d bytes", max))
	}
	f, err := Reopen(h, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, fi.Size())
	n, err := f.ReadAt(b, 0)
	if int64(n) == fi.Size() {
		err = nil
	}
	return b[:n], err
}

// HandlePath is a name for an open handle that system calls without a descriptor take. It needs this process's own
// /proc, so it is for use where no container's mounts can be over it.
func HandlePath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// Reopen opens what a handle (O_PATH) names for reading or writing, through a /proc that was checked to be one.
func Reopen(f *os.File, flags int) (*os.File, error) {
	p, err := OpenProcfs()
	if err != nil {
		return nil, err
	}
	defer p.Close()
	fds, err := p.Open("self/fd", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer fds.Close()
	for {
		fd, err := unix.Openat(int(fds.Fd()), fmt.Sprint(f.Fd()), flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), f.Name()), nil
		case unix.EINTR:
			continue
		}
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: err}
	}
}
