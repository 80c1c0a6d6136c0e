//go:build linux

package mount

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/osthread"
)

// mount(2), for what the newer calls cannot do on this kernel, or cannot do at all.

// maxString is what fsconfig(2) takes for one value, in bytes.
const maxString = 255

// stNoSymFollow is ST_NOSYMFOLLOW of include/linux/statfs.h.
const stNoSymFollow = 0x2000

// remountByPath changes attributes of an attached mount before Linux 5.12. mount(2) sets them all at once, so those
// that it has now are given again.
func remountByPath(f *os.File, set, clear uint64) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return err
	}
	attr := attributesOf(fs.Flags)&^clear | set
	return unix.Mount("", HandlePath(f), "", unix.MS_REMOUNT|unix.MS_BIND|legacyFlags(attr), "")
}

// attributesOf turns the flags of statfs(2), which are mount(2)'s but for the kinds of atime, into MOUNT_ATTR_*.
func attributesOf(flags int64) (attr uint64) {
	for _, f := range [...]struct {
		flag int64
		attr uint64
	}{{unix.ST_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.ST_NOSUID, unix.MOUNT_ATTR_NOSUID}, {unix.ST_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.ST_NOEXEC, unix.MOUNT_ATTR_NOEXEC}, {unix.ST_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME},
		{stNoSymFollow, unix.MOUNT_ATTR_NOSYMFOLLOW}} {
		if flags&f.flag != 0 {
			attr |= f.attr
		}
	}
	switch {
	case flags&unix.ST_NOATIME != 0:
		attr |= unix.MOUNT_ATTR_NOATIME
	case flags&unix.ST_RELATIME == 0:
		attr |= unix.MOUNT_ATTR_STRICTATIME
	}
	return attr
}

// legacyFlags are the flags of mount(2) for attributes.
func legacyFlags(attr uint64) (flags uintptr) {
	for _, f := range [...]struct {
		attr uint64
		flag uintptr
	}{{unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY}, {unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID}, {unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
		{unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC}, {unix.MOUNT_ATTR_NODIRATIME, unix.MS_NODIRATIME},
		{unix.MOUNT_ATTR_NOSYMFOLLOW, unix.MS_NOSYMFOLLOW}} {
		if attr&f.attr != 0 {
			flags |= f.flag
		}
	}
	switch attr & unix.MOUNT_ATTR__ATIME {
	case unix.MOUNT_ATTR_NOATIME:
		flags |= unix.MS_NOATIME
	case unix.MOUNT_ATTR_STRICTATIME:
		flags |= unix.MS_STRICTATIME
	default:
		flags |= unix.MS_RELATIME
	}
	return flags
}

// filesystemByText makes a new mount by mount(2), whose options are one text that may fill a page, while fsconfig
// takes no value of more than 255 bytes (the lowerdir of an overlay with many layers).
func filesystemByText(fstype, source string, attr int, data []string) (fd int, err error) {
	err = inMountNamespace(func() (err error) {
		fd, err = mountByText(fstype, source, attr, data)
		return err
	})
	return fd, err
}

// mountByText mounts over the root of the calling thread's own mount namespace, and brings a copy of the mount out of
// it that is attached nowhere.
func mountByText(fstype, source string, attr int, data []string) (fd int, err error) {
	text := strings.Join(data, ",")
	if len(text) >= os.Getpagesize() {
		return -1, errs.New(errs.Unsupported, "", fmt.Errorf("its options have %d bytes, mount(2) takes %d", len(text), os.Getpagesize()-1))
	}
	switch err := unix.Mount(source, "/", fstype, legacyFlags(uint64(attr)), text); err {
	case nil:
	case unix.ENODEV:
		return -1, errs.New(errs.Unsupported, "", fmt.Errorf("this kernel does not have it: %w", err))
	default:
		return -1, err
	}
	// The thread's root is the folder below the new mount; ".." of it leads to what is on top.
	return unix.OpenTree(unix.AT_FDCWD, "/..", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}

// inMountNamespace runs fn on a thread in a mount namespace of its own, both of which end with it. The thread has a
// working directory of its own, too.
func inMountNamespace(fn func() error) error {
	return osthread.Run(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			return err
		}
		return fn()
	})
}
