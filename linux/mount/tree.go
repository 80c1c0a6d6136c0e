//go:build linux

package mount

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Tree is a mount that is attached nowhere yet, an open descriptor. Close of one that was never attached unmounts it;
// the kernel waits some milliseconds then, so the trees of a start are all attached.
type Tree struct {
	f       *os.File
	what    string
	pending uint64 // attributes that this kernel can set only after attaching (before Linux 5.12)
}

// Close gives the descriptor back; an attached mount stays.
func (t *Tree) Close() error { return t.f.Close() }

// File is the open root of the tree.
func (t *Tree) File() *os.File { return t.f }

// Filesystem makes a new mount of a file system (fsopen(2), Linux 5.2).
func Filesystem(fstype, source string, o Options) (*Tree, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, errs.Wrap("open file system "+fstype, known(err))
	}
	defer unix.Close(fs)
	if source != "" {
		if err := unix.FsconfigSetString(fs, "source", source); err != nil {
			return nil, errs.Wrap("mount "+fstype, explain(fs, err))
		}
	}
	for _, d := range o.Data {
		k, v, ok := strings.Cut(d, "=")
		if ok {
			err = unix.FsconfigSetString(fs, k, v)
		} else {
			err = unix.FsconfigSetFlag(fs, k)
		}
		if err != nil {
			return nil, errs.New(errs.Invalid, "mount "+fstype+" with option "+d, explain(fs, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, errs.Wrap("mount "+fstype, explain(fs, err))
	}
	// The attributes for the tree are those of the one mount that it is.
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int((o.Set|o.RecSet)&^unix.MOUNT_ATTR_NOSYMFOLLOW))
	if err != nil {
		return nil, errs.Wrap("mount "+fstype, explain(fs, err))
	}
	t := &Tree{f: os.NewFile(uintptr(fd), fstype), what: fstype}
	if (o.Set|o.RecSet)&unix.MOUNT_ATTR_NOSYMFOLLOW != 0 {
		err = t.setAttr(unix.MOUNT_ATTR_NOSYMFOLLOW, 0, false)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func known(err error) error {
	if err == unix.ENODEV {
		return errs.New(errs.Unsupported, "", fmt.Errorf("this kernel does not have it: %w", err))
	}
	return err
}

// explain adds what the file system itself says of a failure (fsopen(2), "message retrieval").
func explain(fs int, err error) error {
	buf := make([]byte, 1024)
	n, e := unix.Read(fs, buf)
	if e != nil || n < 3 {
		return err
	}
	return fmt.Errorf("%s: %w", strings.TrimSpace(string(buf[2:n])), err)
}

// Bind makes a second mount of what a handle names, with all that is mounted below it or without (open_tree(2)).
func Bind(source *os.File, recursive bool) (*Tree, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(int(source.Fd()), "", flags)
	if err != nil {
		return nil, errs.Wrap("bind "+source.Name(), err)
	}
	return &Tree{f: os.NewFile(uintptr(fd), source.Name()), what: source.Name()}, nil
}

// SetAttr gives the mount, and with its r-options the whole tree, its attributes.
func (t *Tree) SetAttr(o Options) error {
	if o.RecSet|o.RecClear != 0 {
		if err := t.setAttr(o.RecSet, o.RecClear, true); err != nil {
			return err
		}
	}
	if o.Set|o.Clear == 0 {
		return nil
	}
	return t.setAttr(o.Set, o.Clear, false)
}

func (t *Tree) setAttr(set, clear uint64, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	// One kind of atime is chosen by clearing all of them (mount_setattr(2)).
	if set&unix.MOUNT_ATTR__ATIME != 0 {
		clear |= unix.MOUNT_ATTR__ATIME
	}
	err := unix.MountSetattr(int(t.f.Fd()), "", flags, &unix.MountAttr{Attr_set: set, Attr_clr: clear})
	if err == unix.ENOSYS && !recursive {
		t.pending |= set
		return nil
	}
	if err == unix.ENOSYS {
		return errs.New(errs.Unsupported, "set attributes of everything below "+t.what, fmt.Errorf("recursive attributes need Linux 5.12"))
	}
	return errs.Wrap("set attributes of "+t.what, err)
}

// IDMap translates owners of files through a user namespace's maps: who is root in it owns what root owns on disk
// (Linux 5.12 and a file system that allows it).
func (t *Tree) IDMap(userns *os.File, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(int(t.f.Fd()), "", flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())})
	switch err {
	case nil:
		return nil
	case unix.EINVAL, unix.ENOSYS:
		return errs.New(errs.Unsupported, "map ids of "+t.what, fmt.Errorf("its file system, or this kernel, has no idmapped mounts: %w", err)).
			WithHint("ext4, xfs, btrfs have them since Linux 5.12 to 5.15, tmpfs since 6.3, overlayfs layers since 5.19")
	}
	return errs.Wrap("map ids of "+t.what, err)
}

// SetPropagation says how mounts made below spread (mount_namespaces(7)).
func (t *Tree) SetPropagation(flag uint64, recursive bool) error {
	flags := uint(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	err := unix.MountSetattr(int(t.f.Fd()), "", flags, &unix.MountAttr{Propagation: flag})
	if err == unix.ENOSYS {
		if recursive {
			flag |= unix.MS_REC
		}
		err = unix.Mount("", HandlePath(t.f), "", uintptr(flag), "")
	}
	return errs.Wrap("set propagation of "+t.what, err)
}

// Attach moves the mount onto a handle: what is there now is covered (move_mount(2)). Nobody can put another target in
// its place meanwhile, because no name is looked up.
func (t *Tree) Attach(target *os.File, why string) error {
	err := trace.Step("mount", why, "what", t.what, "on", target.Name()).Do(func() error {
		return unix.MoveMount(int(t.f.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	})
	if err != nil {
		return errs.Wrap("mount "+t.what+" on "+target.Name(), err)
	}
	if t.pending != 0 {
		err = unix.Mount("", HandlePath(t.f), "", unix.MS_REMOUNT|unix.MS_BIND|legacyFlags(t.pending), "")
	}
	return errs.Wrap("set attributes of "+target.Name(), err)
}

// legacyFlags are the flags of mount(2) for attributes.
func legacyFlags(attr uint64) (flags uintptr) {
	for _, f := range [...]struct {
		attr uint64
		flag uintptr
	}{{unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY}, {unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID}, {unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
		{unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC}, {unix.MOUNT_ATTR_NOATIME, unix.MS_NOATIME}, {unix.MOUNT_ATTR_STRICTATIME, unix.MS_STRICTATIME},
		{unix.MOUNT_ATTR_NODIRATIME, unix.MS_NODIRATIME}} {
		if attr&f.attr != 0 {
			flags |= f.flag
		}
	}
	return flags
}

// Remount changes the attributes of the mount that a handle is on.
func Remount(target *os.File, o Options, why string) error {
	return trace.Step("mount_setattr", why, "on", target.Name()).Do(func() error {
		t := &Tree{f: target, what: target.Name()}
		if err := t.SetAttr(o); err != nil || t.pending == 0 {
			return err
		}
		return errs.Wrap("remount "+t.what, unix.Mount("", HandlePath(target), "", unix.MS_REMOUNT|unix.MS_BIND|legacyFlags(t.pending), ""))
	})
}

// SetPropagation changes how mounts spread from a path of our own.
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

// PivotRoot makes a root, which must be a mount point, the root of this mount namespace; the old one is detached, so
// that no name leads to the host's files any more (pivot_root(2), "pivot_root(".", ".")").
func PivotRoot(r *Root) error {
	old, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
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
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return err
		}
		return unix.Chdir("/")
	})
	if err == unix.EINVAL {
		return errs.Wrap("pivot_root to "+r.Path(), fmt.Errorf("%w (the new root must be a mount point, and neither it nor the mount above may be shared)", err))
	}
	return errs.Wrap("pivot_root to "+r.Path(), err)
}
