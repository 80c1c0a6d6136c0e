//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// early is what finding the devices takes.
var early = []mount{
	{"dev", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
	{"sys", "/sys", "sysfs", 0, ""},
}

// late is what a system has, as on any distribution with systemd.
var late = []mount{
	{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sys", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"securityfs", "/sys/kernel/security", "securityfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "nsdelegate"},
	{"bpf", "/sys/fs/bpf", "bpf", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mode=700"},
	{"dev", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
	{"shm", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"mqueue", "/dev/mqueue", "mqueue", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"run", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
}

func mountAll(mounts []mount) error {
	for _, m := range mounts {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, m.target, err)
		}
	}
	return nil
}

// makeRoot makes the host's files, below a layer on the disk that takes what is written, the root file system.
func makeRoot() error {
	const root = "/newroot"
	if err := mountAll([]mount{
		{"/dev/vda", "/disk", "ext4", unix.MS_NOATIME, ""},
		{"host", "/host", "virtiofs", unix.MS_RDONLY, ""},
	}); err != nil {
		return err
	}
	for _, dir := range []string{"/disk/upper", "/disk/work", "/disk/vm"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := mountAll([]mount{
		{"root", root, "overlay", 0, "lowerdir=/host,upperdir=/disk/upper,workdir=/disk/work"},
		{"/disk/lib/modules", root + "/lib/modules", "", unix.MS_BIND, ""},
		// An upper layer cannot lie on another overlay, so tests have a place on the disk itself.
		{"/disk/vm", root + "/vm", "", unix.MS_BIND, ""},
		{"/disk/vm", root + "/var/lib/berth", "", unix.MS_BIND, ""},
	}); err != nil {
		return err
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(root, "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("share mounts, as systemd does: %w", err)
	}
	if err := mountAll(late); err != nil {
		return err
	}
	return settle()
}

// settle does what an init system does before it starts anything.
func settle() error {
	for link, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0",
		"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "core": "/proc/kcore"} {
		if err := os.Symlink(target, "/dev/"+link); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if err := os.MkdirAll("/vm/tmp", 0o755); err != nil {
		return err
	}
	if err := os.Chmod("/vm/tmp", 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("vm")); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	for key, value := range map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME": "/root", "USER": "root", "TMPDIR": "/vm/tmp", "BERTH_VM": "1"} {
		if err := os.Setenv(key, value); err != nil {
			return err
		}
	}
	return delegate()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// delegate enables every controller for the root's children, and leaves the root: a group with processes of its own
// cannot give controllers to its children, and what is started here lives in a service's group, as under systemd.
func delegate() error {
	const top = "/sys/fs/cgroup"
	service := filepath.Join(top, "system.slice", "vm.service")
	if err := os.MkdirAll(service, 0o755); err != nil {
		return err
	}
	controllers, err := os.ReadFile(filepath.Join(top, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(controllers)) {
		if err := os.WriteFile(filepath.Join(top, "cgroup.subtree_control"), []byte("+"+name), 0); err != nil {
			return fmt.Errorf("enable controller %s: %w", name, err)
		}
	}
	return os.WriteFile(filepath.Join(service, "cgroup.procs"), []byte("0"), 0)
}
