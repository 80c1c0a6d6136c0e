//go:build linux

package mount

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/osthread"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/namespace"
)

// inside runs fn on a thread in the mount namespace of a process, whose root bounds all look-ups: what the process's
// container has put in the way leads nowhere else.
func inside(pid int, fn func(root *Root) error) error {
	kind, _ := namespace.ByName("mount")
	ns, err := namespace.Open(pid, kind)
	if err != nil {
		return err
	}
	defer ns.Close()
	return osthread.Run(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return errs.Wrap("unshare working directory", err)
		}
		if err := namespace.Enter(ns, kind); err != nil {
			return err
		}
		root, err := OpenRoot("/")
		if err != nil {
			return err
		}
		defer root.Close()
		return fn(root)
	})
}

// AttachInside puts a mount that is attached nowhere into a running process's mount namespace. A target that is missing is
// made, as owner, an id of the host: in a user namespace the host's root has no id to make files with. What is mounted
// there later on the host does not come in, unless the options say so.
func (t *Tree) AttachInside(pid int, target string, owner uint32, o Options) error {
	spread, recursive := o.Propagation, o.RecPropagation
	if spread == 0 {
		spread, recursive = unix.MS_PRIVATE, true
	}
	fi, err := t.f.Stat()
	if err != nil {
		return errs.Wrap("mount "+t.what, err)
	}
	return inside(pid, func(root *Root) error {
		make := func() (*os.File, error) {
			if fi.IsDir() {
				return root.MkdirAll(target, 0o755)
			}
			return root.Create(target, 0o644)
		}
		at, err := make()
		if owner != 0 && errors.Is(err, unix.EOVERFLOW) {
			_ = unix.Setfsgid(int(owner))
			_ = unix.Setfsuid(int(owner))
			at, err = make()
			_ = unix.Setfsuid(0)
			_ = unix.Setfsgid(0)
		}
		if err != nil {
			return errs.Wrap("mount "+t.what+" on "+target, err)
		}
		defer at.Close()
		if err := t.Attach(at, "a mount comes into a running container"); err != nil {
			return err
		}
		return t.SetPropagation(spread, recursive)
	})
}

// DetachInside takes a mount out of a running process's mount namespace. One that is in use stays: the error is of kind
// Conflict.
func DetachInside(pid int, target string) error {
	return inside(pid, func(*Root) error {
		// The thread's root is the container's: links lead nowhere else, and mounts of other namespaces are refused.
		err := trace.Step("umount", "a mount leaves a running container", "target", target).
			Do(func() error { return unix.Unmount(target, unix.UMOUNT_NOFOLLOW) })
		if errors.Is(err, unix.EBUSY) {
			return errs.New(errs.Conflict, "unmount "+target, fmt.Errorf("a process of the container uses it: %w", err)).WithHint("berth top shows the processes")
		}
		return errs.Wrap("unmount "+target, err)
	})
}
