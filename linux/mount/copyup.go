//go:build linux

package mount

import (
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// CopyUp fills a new mount, as a rule a tmpfs, with copies of what is in the folder that it will cover ("tmpcopyup"):
// files, folders, links and nodes with their owners, modes, times and extended attributes. Names that are hard links of
// each other become separate files. The root of the mount itself stays as its options made it.
func CopyUp(folder *os.File, into *Tree) error {
	return trace.Step("copy", "the new file system starts with what it covers", "from", folder.Name(), "to", into.what).Do(func() error {
		src, err := Reopen(folder, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return errs.Wrap("copy "+folder.Name(), err)
		}
		defer src.Close()
		dst, err := openAt(into.f, ".", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return errs.Wrap("copy "+folder.Name(), err)
		}
		defer dst.Close()
		return errs.Wrap("copy "+folder.Name(), copyEntries(src, dst))
	})
}

func copyEntries(src, dst *os.File) error {
	names, err := src.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "stat", Path: src.Name() + "/" + name, Err: err}
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			err = copyFolder(src, dst, name, &st)
		case unix.S_IFREG:
			err = copyFile(src, dst, name, &st)
		default:
			err = copyNode(src, dst, name, &st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFolder(src, dst *os.File, name string, st *unix.Stat_t) error {
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return &os.PathError{Op: "mkdir", Path: dst.Name() + "/" + name, Err: err}
	}
	return copyOpen(src, dst, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.O_RDONLY|unix.O_DIRECTORY, st, copyEntries)
}

func copyFile(src, dst *os.File, name string, st *unix.Stat_t) error {
	return copyOpen(src, dst, name, unix.O_RDONLY|unix.O_NONBLOCK, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, st, func(from, to *os.File) error {
		_, err := io.Copy(to, from)
		return err
	})
}

// copyOpen opens an entry in both folders, copies its content by fill, then its attributes, the times last.
func copyOpen(src, dst *os.File, name string, read, write int, st *unix.Stat_t, fill func(from, to *os.File) error) error {
	from, err := openAt(src, name, read)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openAt(dst, name, write)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := fill(from, to); err != nil {
		return err
	}
	err = Chown(to, int(st.Uid), int(st.Gid))
	if err == nil { // after the owner, whose change takes set-user-id and file capabilities away
		err = os.NewSyscallError("fchmod", unix.Fchmod(int(to.Fd()), st.Mode&0o7777))
	}
	if err == nil {
		err = copyXattrs(from, to)
	}
	if err == nil {
		err = os.NewSyscallError("futimes", unix.UtimesNanoAt(int(dst.Fd()), name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW))
	}
	return err
}

// copyNode copies what cannot be opened without consequences: links, FIFOs, sockets, devices.
func copyNode(src, dst *os.File, name string, st *unix.Stat_t) error {
	fail := func(op string, err error) error {
		return &os.PathError{Op: op, Path: dst.Name() + "/" + name, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := readlinkAt(src, name)
		if err != nil {
			return fail("readlink", err)
		}
		if err := unix.Symlinkat(target, int(dst.Fd()), name); err != nil {
			return fail("symlink", err)
		}
	} else {
		if err := mknodAt(dst, name, st.Mode, st.Rdev); err != nil {
			return fail("mknod", err)
		}
		f, err := openMade(dst, name, 0, st.Mode)
		if err != nil {
			return err
		}
		f.Close()
	}
	if err := unix.Fchownat(int(dst.Fd()), name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fail("chown", err)
	}
	if err := unix.UtimesNanoAt(int(dst.Fd()), name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fail("utimes", err)
	}
	return nil
}

// copyXattrs copies extended attributes (xattr(7)): file capabilities, access lists, users' own. Those that the new
// file system does not keep are left behind.
func copyXattrs(from, to *os.File) error {
	size, err := unix.Flistxattr(int(from.Fd()), nil)
	if err == unix.EOPNOTSUPP || err == nil && size == 0 {
		return nil
	}
	list := make([]byte, size)
	n := 0
	if err == nil {
		n, err = unix.Flistxattr(int(from.Fd()), list)
	}
	if err != nil {
		return os.NewSyscallError("flistxattr", err)
	}
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for _, name := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		v, err := unix.Fgetxattr(int(from.Fd()), name, value)
		if err != nil {
			return os.NewSyscallError("fgetxattr "+name, err)
		}
		if err := unix.Fsetxattr(int(to.Fd()), name, value[:v], 0); err != nil && err != unix.EOPNOTSUPP {
			return os.NewSyscallError("fsetxattr "+name, err)
		}
	}
	return nil
}
