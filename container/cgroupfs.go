//go:build linux

package container

import (
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/linux/mount"
)

// mountCgroup shows the container its control group: the whole hierarchy with a cgroup namespace, in which its own group
// is the root; the folder of its group without.
func (r *rootfs) mountCgroup(m *Mount, o mount.Options) error {
	mode, err := cgroup.Detect()
	if err != nil {
		return err
	}
	if mode == cgroup.V2 {
		return r.mountCgroup2(m, o)
	}
	target, err := r.root.MkdirAll(m.Destination, 0o755)
	if err != nil {
		return err
	}
	defer target.Close()
	tmpfs, err := mount.Filesystem("tmpfs", "tmpfs", mount.Options{Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC, Data: append(r.label("tmpfs"), "mode=755", "size=64k")})
	if err != nil {
		return err
	}
	defer tmpfs.Close()
	if err := tmpfs.Attach(target, "a folder for each hierarchy of version 1"); err != nil {
		return err
	}
	for _, h := range cgroup.Hierarchies() {
		if err := r.mountHierarchy(m, o, h); err != nil {
			return errs.Wrap("mount control group "+h.Name, err)
		}
	}
	if o.Set&unix.MOUNT_ATTR_RDONLY == 0 {
		return nil
	}
	at, err := r.root.Open(m.Destination, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer at.Close()
	return mount.Remount(at, mount.Options{Set: unix.MOUNT_ATTR_RDONLY}, "no hierarchy can be added")
}

func (r *rootfs) mountCgroup2(m *Mount, o mount.Options) error {
	if !r.has("cgroup") {
		return r.bindGroup(m.Destination, cgroup.Mountpoint+r.ownGroup(""), o)
	}
	target, err := r.root.MkdirAll(m.Destination, 0o755)
	if err != nil {
		return err
	}
	defer target.Close()
	tree, err := mount.Filesystem("cgroup2", "cgroup", mount.Options{Set: o.Set})
	if err != nil {
		return err
	}
	defer tree.Close()
	return tree.Attach(target, "the container sees its own control group as the root")
}

func (r *rootfs) mountHierarchy(m *Mount, o mount.Options, h cgroup.Hierarchy) error {
	at := path.Join(m.Destination, h.Name)
	for _, alias := range h.Aliases {
		if err := r.root.Symlink(h.Name, path.Join(m.Destination, alias)); err != nil {
			return err
		}
	}
	if !r.has("cgroup") {
		return r.bindGroup(at, h.Dir+r.ownGroup(h.Controllers()), o)
	}
	target, err := r.root.MkdirAll(at, 0o755)
	if err != nil {
		return err
	}
	defer target.Close()
	tree, err := mount.Filesystem("cgroup", "cgroup", mount.Options{Set: o.Set, Data: h.Options()})
	if err != nil {
		return err
	}
	defer tree.Close()
	return tree.Attach(target, "the container sees its own control group as the root")
}

func (r *rootfs) bindGroup(at, dir string, o mount.Options) error {
	return r.bind(&Mount{Destination: at, Type: "bind", Source: dir}, mount.Options{Bind: true, Set: o.Set})
}

// ownGroup is the path of this process's group in a hierarchy, as the kernel says (cgroups(7), /proc/PID/cgroup).
func (r *rootfs) ownGroup(controllers string) string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(b), "\n") {
		if f := strings.SplitN(line, ":", 3); len(f) == 3 && f[1] == controllers {
			return f[2]
		}
	}
	return ""
}
