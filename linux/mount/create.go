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

// Everything here is made as an entry of an open parent folder and then opened as what it is, so that a container that
// swaps folders and links meanwhile can only hurt itself (CVE-2024-45310). Modes hold whatever the umask is.

const maxLinks = 40 // as many links as the kernel follows

// MkdirAll makes a folder and those above it, as far as they are missing, and returns its handle (O_PATH). A symbolic
// link on the way that leads nowhere is followed and what it names is made, inside.
func (r *Root) MkdirAll(name string, mode uint32) (*os.File, error) {
	dir, err := r.mkdirAll(name, mode, 0)
	return dir, errs.Wrap("make folder "+name, err)
}

func (r *Root) mkdirAll(name string, mode uint32, links int) (*os.File, error) {
	f, err := r.Open(name, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	if links > maxLinks {
		return nil, unix.ELOOP
	}
	above, base := split(name)
	if base == "" { // the root itself was removed
		return nil, err
	}
	parent, err := r.mkdirAll(above, mode, links)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if base == "." || base == ".." {
		return r.Open(name, unix.O_PATH|unix.O_DIRECTORY)
	}
	err = trace.Step("mkdir", "a folder is missing in the root file system", "path", name).
		Do(func() error { return unix.Mkdirat(int(parent.Fd()), base, mode) })
	switch err {
	case nil:
		return openMade(parent, base, unix.O_DIRECTORY, mode)
	case unix.EEXIST: // somebody was faster, or a link stands there that leads nowhere
		if text, err := readlinkAt(parent, base); err == nil {
			return r.mkdirAll(follow(above, text), mode, links+1)
		}
		return r.Open(name, unix.O_PATH|unix.O_DIRECTORY)
	}
	return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
}

// Create makes an empty file with the folders above it (0755), unless something is there, and returns the handle
// (O_PATH) of what is there then.
func (r *Root) Create(name string, mode uint32) (*os.File, error) {
	f, err := r.create(name, mode, 0)
	return f, errs.Wrap("make file "+name, err)
}

func (r *Root) create(name string, mode uint32, links int) (*os.File, error) {
	f, err := r.Open(name, unix.O_PATH)
	if !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	if links > maxLinks {
		return nil, unix.ELOOP
	}
	if strings.HasSuffix(name, "/") {
		return nil, &os.PathError{Op: "create", Path: name, Err: unix.EISDIR}
	}
	above, base := split(name)
	parent, err := r.mkdirAll(above, 0o755, links)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if base == "." || base == ".." {
		return r.Open(name, unix.O_PATH)
	}
	err = trace.Step("create", "a file is missing in the root file system", "path", name).
		Do(func() error { return mknodAt(parent, base, unix.S_IFREG|mode, 0) })
	switch err {
	case nil:
		return openMade(parent, base, 0, mode)
	case unix.EEXIST:
		if text, err := readlinkAt(parent, base); err == nil {
			return r.create(follow(above, text), mode, links+1)
		}
		return r.Open(name, unix.O_PATH)
	}
	return nil, &os.PathError{Op: "create", Path: name, Err: err}
}

// split cuts the last component off a path, by its text alone: what "..", "." and links mean is for the kernel to say.
func split(name string) (above, base string) {
	name = strings.TrimRight(name, "/")
	i := strings.LastIndexByte(name, '/')
	return name[:i+1], name[i+1:]
}

// follow is the path that a symbolic link in the folder above names.
func follow(above, text string) string {
	if strings.HasPrefix(text, "/") {
		return text
	}
	return above + text
}

// openMade opens an entry that was just made and gives it the bits of its mode that the umask took away.
func openMade(parent *os.File, base string, flags int, mode uint32) (*os.File, error) {
	f, err := openAt(parent, base, unix.O_PATH|flags)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	// A folder inherits set-group-id from the one above, which stays.
	if want := mode&0o7777 | st.Mode&unix.S_ISGID; st.Mode&0o7777 != want && st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := Chmod(f, want); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// mknodAt makes an entry; with S_IFREG an empty file, which unlike open(2) with O_CREAT never opens what is there.
func mknodAt(dir *os.File, base string, mode uint32, dev uint64) error {
	return unix.Mknodat(int(dir.Fd()), base, mode, int(dev))
}

// parent opens the folder that an entry is in and makes it if it is missing; the entry itself is not looked at.
func (r *Root) parent(name string, made bool) (dir *os.File, base string, err error) {
	above, base := split(name)
	if base == "" || base == "." || base == ".." {
		return nil, "", errs.New(errs.Invalid, "find the folder of "+name, fmt.Errorf("it names no entry of a folder"))
	}
	if made {
		dir, err = r.MkdirAll(above, 0o755)
	} else {
		dir, err = r.Open(above, unix.O_PATH|unix.O_DIRECTORY)
	}
	return dir, base, err
}

// Mknod makes a device, FIFO or socket; mode holds the type bits as for mknod(2). What is there already is an error
// (EEXIST).
func (r *Root) Mknod(name string, mode uint32, dev uint64) error {
	dir, base, err := r.parent(name, true)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = trace.Step("mknod", "a program expects this node", "path", name, "device", fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)),
		"mode", fmt.Sprintf("%#o", mode)).Do(func() error { return mknodAt(dir, base, mode, dev) })
	if err != nil {
		return &os.PathError{Op: "mknod", Path: name, Err: err}
	}
	f, err := openMade(dir, base, 0, mode)
	if err != nil {
		return err
	}
	return f.Close()
}

// Symlink makes a symbolic link; what is there already stays.
func (r *Root) Symlink(target, name string) error {
	dir, base, err := r.parent(name, true)
	if err != nil {
		return err
	}
	defer dir.Close()
	err = trace.Step("symlink", "a program expects this name", "path", name, "target", target).
		Do(func() error { return unix.Symlinkat(target, int(dir.Fd()), base) })
	if err != nil && err != unix.EEXIST {
		return &os.PathError{Op: "symlink", Path: name, Err: err}
	}
	return nil
}

// Remove removes an entry: a file, a link (not what it names), or an empty folder. What is not there is no error.
func (r *Root) Remove(name string) error {
	dir, base, err := r.parent(name, false)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	err = trace.Step("unlink", "it is not needed any more", "path", name).Do(func() error {
		err := unix.Unlinkat(int(dir.Fd()), base, 0)
		if err == unix.EISDIR {
			err = unix.Unlinkat(int(dir.Fd()), base, unix.AT_REMOVEDIR)
		}
		return err
	})
	if err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// Chmod changes the mode of what a handle names, O_PATH ones included.
func Chmod(f *os.File, mode uint32) error {
	err := unix.Fchmodat(int(f.Fd()), "", mode, unix.AT_EMPTY_PATH)
	if err == unix.ENOSYS || err == unix.EOPNOTSUPP || err == unix.EINVAL || err == unix.EPERM { // before Linux 6.6, or an outer filter
		err = unix.Chmod(HandlePath(f), mode)
	}
	if err != nil {
		return &os.PathError{Op: "chmod", Path: f.Name(), Err: err}
	}
	return nil
}

// Chown changes owner and group of what a handle names, O_PATH ones included.
func Chown(f *os.File, uid, gid int) error {
	if err := unix.Fchownat(int(f.Fd()), "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "chown", Path: f.Name(), Err: err}
	}
	return nil
}
