//go:build linux

// Package quota bounds how much of a disk a folder may take: by a project quota where the file system has them (ext4 and
// xfs, mounted with prjquota), by a file system in a file elsewhere.
//
// A project is a number that every file below a folder inherits; the file system counts its blocks and refuses more than
// the limit, exactly (quotactl(2), ioctl_xfs_fsgetxattr(2)). Programs with CAP_SYS_RESOURCE pass the limit on ext4, which
// no container has by default; overlayfs gives it up for what it writes (fs/overlayfs/super.c).
package quota

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// fsxattr is struct fsxattr of include/uapi/linux/fs.h.
type fsxattr struct {
	Xflags, Extsize, Nextents, Projid, Cowextsize uint32
	_                                             [8]byte
}

const (
	fsGetXattr     = 0x801c581f // FS_IOC_FSGETXATTR
	fsSetXattr     = 0x401c5820 // FS_IOC_FSSETXATTR
	projectInherit = 0x200      // FS_XFLAG_PROJINHERIT
)

// dqblk is struct if_dqblk of include/uapi/linux/quota.h: blocks of 1024 bytes, space in bytes.
type dqblk struct {
	Bhardlimit, Bsoftlimit, Curspace, Ihardlimit, Isoftlimit, Curinodes, Btime, Itime uint64
	Valid                                                                             uint32
	_                                                                                 uint32
}

const (
	getQuota     = 0x800007 // Q_GETQUOTA
	setQuota     = 0x800008 // Q_SETQUOTA
	projectQuota = 2        // PRJQUOTA
	limitBlocks  = 1        // QIF_BLIMITS
)

func ioctl(f *os.File, request uintptr, x *fsxattr) error {
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(x))); e != 0 {
		return e
	}
	return nil
}

// quotactl is quotactl_fd(2), Linux 5.14: no name of a device is needed.
func quotactl(f *os.File, command uint32, project uint32, q *dqblk) error {
	_, _, e := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), uintptr(command<<8|projectQuota), uintptr(project), uintptr(unsafe.Pointer(q)), 0, 0)
	if e != 0 {
		return e
	}
	return nil
}

// Supported reports whether the file system of a folder has project quotas and enforces them.
func Supported(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	var q dqblk
	var x fsxattr
	return quotactl(f, getQuota, 0, &q) == nil && ioctl(f, fsGetXattr, &x) == nil
}

// Limit makes an empty folder a project whose files take at most so many bytes of disk, rounded up to 1024.
func Limit(dir string, project uint32, bytes int64) error {
	return trace.Step("quotactl", "the file system refuses what is above the limit", "dir", dir, "project", project, "bytes", bytes).Do(func() error {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		defer f.Close()
		var x fsxattr
		if err := ioctl(f, fsGetXattr, &x); err != nil {
			return unsupported(dir, err)
		}
		x.Projid, x.Xflags = project, x.Xflags|projectInherit
		if err := ioctl(f, fsSetXattr, &x); err != nil {
			return unsupported(dir, err)
		}
		q := dqblk{Bhardlimit: uint64(bytes+1023) / 1024, Valid: limitBlocks}
		if err := quotactl(f, setQuota, project, &q); err != nil {
			return unsupported(dir, err)
		}
		return nil
	})
}

// Project is the number that a folder has; 0 is none.
func Project(dir string) uint32 {
	f, err := os.Open(dir)
	if err != nil {
		return 0
	}
	defer f.Close()
	var x fsxattr
	if ioctl(f, fsGetXattr, &x) != nil {
		return 0
	}
	return x.Projid
}

func unsupported(dir string, err error) error {
	return errs.New(errs.Unsupported, "limit the size of "+dir, fmt.Errorf("its file system has no project quotas: %w", err)).
		WithHint("ext4: mkfs.ext4 -O quota,project, or tune2fs -O quota,project while it is not mounted, and mount -o prjquota; xfs: mount -o prjquota")
}

// Projects are the numbers that are taken: a folder of links, each to the folder that has the number.
type Projects struct{ dir string }

// OpenProjects makes one of an engine's data root. It touches nothing.
func OpenProjects(root string) *Projects { return &Projects{filepath.Join(root, "projects")} }

// Take finds a number that nobody has, for a folder. Making a link is what makes it the taker's; one whose folder is gone
// is free.
func (p *Projects) Take(holder string) (uint32, error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return 0, errs.Wrap("take a project number", err)
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(holder))
	for n := range uint32(1 << 16) {
		id := 1<<20 + (h.Sum32()+n)%(1<<30) // below are numbers that people use
		link := filepath.Join(p.dir, strconv.FormatUint(uint64(id), 10))
		err := os.Symlink(holder, link)
		if errors.Is(err, fs.ErrExist) {
			if _, gone := os.Stat(link); !errors.Is(gone, fs.ErrNotExist) {
				continue
			}
			_ = os.Remove(link)
			err = os.Symlink(holder, link)
		}
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return 0, errs.Wrap("take a project number", err)
		}
	}
	return 0, errs.Text(errs.Unavailable, "take a project number: all are taken")
}

// Move lets a number go with a folder that gets another name.
func (p *Projects) Move(project uint32, to string) error {
	link := filepath.Join(p.dir, strconv.FormatUint(uint64(project), 10))
	if project == 0 {
		return nil
	}
	_ = os.Remove(link)
	return os.Symlink(to, link)
}
