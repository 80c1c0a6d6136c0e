//go:build linux

package mount

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// SetPropagation changes how mounts spread from a path of our own; flag is MS_PRIVATE, MS_SLAVE, MS_SHARED or
// MS_UNBINDABLE, with MS_REC for all below (mount_namespaces(7)).
func SetPropagation(path string, flag uintptr, why string) error {
	err := trace.Step("mount", why, "propagation", propagationWord(flag), "on", path).
		Do(func() error { return unix.Mount("", path, "", flag, "") })
	return errs.Wrap("set propagation of "+path, err)
}

func propagationWord(flag uintptr) string {
	r := ""
	if flag&unix.MS_REC != 0 {
		r = "r"
	}
	for _, p := range propagations {
		if uint64(flag)&p.flag != 0 {
			return r + p.word
		}
	}
	return "unchanged"
}

// PrivateParent makes the mount that a folder lies in private, so that what is mounted there does not spread, and
// pivot_root(2) takes it for the parent of a new root.
func PrivateParent(dir *os.File, why string) error {
	err := trace.Step("mount", why, "propagation", "private", "on", "the mount of "+dir.Name()).
		Do(func() error { return privateAbove(dir) })
	return errs.Wrap("set propagation above "+dir.Name(), err)
}

// privateAbove finds the root of the mount by going up: only there can a propagation be set.
func privateAbove(dir *os.File) error {
	err := setPropagation(dir, unix.MS_PRIVATE, false)
	if err != unix.EINVAL {
		return err
	}
	above, err := openAt(dir, "..", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer above.Close()
	if sameFile(dir, above) { // the root of all, and no mount point: a chroot
		return unix.EINVAL
	}
	return privateAbove(above)
}

func sameFile(a, b *os.File) bool {
	x, e1 := a.Stat()
	y, e2 := b.Stat()
	return e1 == nil && e2 == nil && os.SameFile(x, y)
}

// Unmount unmounts a path of our own (umount2(2)); what is no mount point any more is no error.
func Unmount(path string, flags int, why string) error {
	err := trace.Step("umount", why, "target", path).Do(func() error {
		err := unix.Unmount(path, flags|unix.UMOUNT_NOFOLLOW)
		if err == unix.EINVAL || err == unix.ENOENT {
			return nil
		}
		return err
	})
	return errs.Wrap("unmount "+path, err)
}

// detachAll unmounts the working directory's mount, with all that lies on it. A look-up of "." for umount2(2) goes up to
// what is mounted on top last, so it is repeated until the working directory belongs to no mount of this namespace.
func detachAll() error {
	for n := 0; ; n++ {
		err := unix.Unmount(".", unix.MNT_DETACH)
		if err == unix.EINVAL && n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// PivotRoot makes a root, which must be a mount point, the root of this mount namespace; the old one is detached, so
// that no name leads to the host's files any more (pivot_root(2), "pivot_root(".", ".")"). The working directory is the
// new root then.
func PivotRoot(r *Root) error {
	old, err := openFolder("/")
	if err != nil {
		return errs.Wrap("open old root", err)
	}
	defer old.Close()
	err = trace.Step("pivot_root", "the image becomes /, the host's files are out of reach", "new_root", r.Path()).Do(func() error {
		if err := unix.Fchdir(r.FD()); err != nil {
			return err
		}
		if err := unix.PivotRoot(".", "."); err != nil {
			return err
		}
		// The old root lies on top of the new one now. What is unmounted here must not be unmounted for the host too.
		if err := unix.Fchdir(int(old.Fd())); err != nil {
			return err
		}
		if err := unix.Mount("", ".", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return err
		}
		if err := detachAll(); err != nil {
			return err
		}
		return unix.Chdir("/")
	})
	if err == unix.EINVAL {
		return errs.Wrap("pivot_root to "+r.Path(), fmt.Errorf("%w (the new root must be a mount point, and neither it nor the mount above may be shared)", err))
	}
	return errs.Wrap("pivot_root to "+r.Path(), err)
}

// MoveRoot is [PivotRoot] for a host whose root is the kernel's initial file system, which cannot be pivoted away
// (runtimes call it "no pivot"): the new root is moved onto / and entered with chroot(2). The host's files stay below,
// mounted, where nothing leads to; whoever may mount can dig them up, so it is for trusted containers only.
func MoveRoot(r *Root) error {
	err := trace.Step("chroot", "the image becomes /; the host's root cannot be taken away", "new_root", r.Path()).Do(func() error {
		if err := unix.MoveMount(r.FD(), "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return err
		}
		if err := unix.Fchdir(r.FD()); err != nil {
			return err
		}
		if err := unix.Chroot("."); err != nil {
			return err
		}
		return unix.Chdir("/")
	})
	return errs.Wrap("move root to "+r.Path(), err)
}
