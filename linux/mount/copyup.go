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

// CopyUp fills a new mount, as a rule a tmpfs, with copies of what is in the folder that it will cover ("tmpcopyup"); see
// [CopyFolder]. The root of the mount itself stays as its options made it.
func CopyUp(folder *os.File, into *Tree) error {
	return trace.Step("copy", "the new file system starts with what it covers", "from", folder.Name(), "to", into.what).Do(func() error {
		return CopyFolder(folder, into.f)
	})
}

// CopyFolder copies what is in a folder into another, empty one: files, folders, links and nodes with their owners, modes,
// times and extended attributes. Names that are hard links of each other stay so, holes of files stay holes, and where
// the file system can, a copy shares the data of its original (FICLONE, ioctl_ficlone(2)). Both are handles and no link
// is followed, so that whoever changes the source meanwhile gets nothing copied but what is in it.
func CopyFolder(from, to *os.File) error {
	src, err := Reopen(from, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return errs.Wrap("copy "+from.Name(), err)
	}
	defer src.Close()
	dst, err := openAt(to, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return errs.Wrap("copy "+from.Name(), err)
	}
	defer dst.Close()
	c := &copier{root: dst, links: map[uint64]string{}, clones: true}
	return errs.Wrap("copy "+from.Name(), c.entries(src, dst, ""))
}

// CopyTree is [CopyFolder] of a folder with its own attributes, into an empty one.
func CopyTree(dir, empty string) error {
	from, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(empty, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := CopyFolder(from, to); err != nil {
		return err
	}
	return CopyAttributes(from, to)
}

// copier is one copy of a tree.
type copier struct {
	root   *os.File
	links  map[uint64]string // inode → the copy of a file with several names, below root
	clones bool              // sharing of data has not failed yet
}

func (c *copier) entries(src, dst *os.File, below string) error {
	names, err := src.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(int(src.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue // it went away meanwhile
		}
		if err != nil {
			return &os.PathError{Op: "stat", Path: src.Name() + "/" + name, Err: err}
		}
		at := below + name
		switch kind := st.Mode & unix.S_IFMT; {
		case kind == unix.S_IFDIR:
			err = c.folder(src, dst, name, at, &st)
		case st.Nlink > 1 && c.links[st.Ino^uint64(st.Dev)<<32] != "":
			err = os.NewSyscallError("link "+at, unix.Linkat(int(c.root.Fd()), c.links[st.Ino^uint64(st.Dev)<<32], int(dst.Fd()), name, 0))
		case kind == unix.S_IFREG:
			err = c.file(src, dst, name, &st)
		default:
			err = copyNode(src, dst, name, &st)
		}
		if err != nil {
			return err
		}
		if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			c.links[st.Ino^uint64(st.Dev)<<32] = at
		}
	}
	return nil
}

func (c *copier) folder(src, dst *os.File, name, at string, st *unix.Stat_t) error {
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return &os.PathError{Op: "mkdir", Path: dst.Name() + "/" + name, Err: err}
	}
	return copyOpen(src, dst, name, unix.O_RDONLY|unix.O_DIRECTORY, unix.O_RDONLY|unix.O_DIRECTORY, st, func(from, to *os.File) error {
		return c.entries(from, to, at+"/")
	})
}

func (c *copier) file(src, dst *os.File, name string, st *unix.Stat_t) error {
	return copyOpen(src, dst, name, unix.O_RDONLY|unix.O_NONBLOCK, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, st, c.content)
}

// content copies a file's bytes, its holes as holes.
func (c *copier) content(from, to *os.File) error {
	if c.clones {
		if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil {
			return nil
		}
		c.clones = false
	}
	fi, err := from.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); at < fi.Size(); {
		begin, end, err := NextData(from, at)
		if err != nil {
			return err
		}
		if begin < 0 {
			break
		}
		if _, err := to.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := from.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(to, from, end-begin); err != nil && err != io.EOF {
			return err
		}
		at = end
	}
	return to.Truncate(fi.Size())
}

// NextData finds the first bytes of a file at or after an offset that are no hole (lseek(2), SEEK_DATA); begin is -1 when
// there are none. It moves the file's offset.
func NextData(f *os.File, at int64) (begin, end int64, err error) {
	begin, err = unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return -1, -1, nil
	}
	if err == nil {
		end, err = unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
	}
	return begin, end, os.NewSyscallError("lseek", err)
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

// CopyAttributes gives a folder the owner, mode, extended attributes and times of another.
func CopyAttributes(from, to *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: from.Name(), Err: err}
	}
	src, err := openAt(from, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := openAt(to, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := Chown(dst, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(int(dst.Fd()), st.Mode&0o7777); err != nil {
		return &os.PathError{Op: "chmod", Path: to.Name(), Err: err}
	}
	if err := copyXattrs(src, dst); err != nil {
		return err
	}
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(int(dst.Fd()), ".", []unix.Timespec{st.Atim, st.Mtim}, 0))
}
