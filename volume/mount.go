//go:build linux

package volume

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/quota"
)

// checkOptions knows the options of Docker's driver "local": type, device and o of mount(8).
func checkOptions(options map[string]string) error {
	for k := range options {
		if k != "type" && k != "device" && k != "o" && k != "size" {
			return errs.Text(errs.Invalid, fmt.Sprintf("invalid option: %q", k))
		}
	}
	if len(options) > 0 && options["device"] == "" && options["size"] == "" {
		return errs.Text(errs.Invalid, `missing required option: "device"`)
	}
	if options["size"] != "" {
		if _, err := quota.Size(options["size"]); err != nil {
			return err
		}
		if options["device"] != "" || options["type"] != "" {
			return errs.Text(errs.Invalid, "size is for a volume without type and device").WithHint("the size of a tmpfs is an option of its own: o=size=1m")
		}
	}
	if options["type"] == "" && options["device"] != "" && !binds(options["o"]) {
		return errs.Text(errs.Invalid, `missing required option: "type"`)
	}
	return nil
}

func binds(o string) bool {
	for _, w := range strings.Split(o, ",") {
		if w == "bind" || w == "rbind" {
			return true
		}
	}
	return false
}

// flags of mount(8) that mount(2) takes as bits; all others are the file system's own.
var mountFlags = [...]struct {
	name string
	set  bool
	bits uintptr
}{
	{"ro", true, unix.MS_RDONLY}, {"rw", false, unix.MS_RDONLY}, {"nosuid", true, unix.MS_NOSUID}, {"suid", false, unix.MS_NOSUID},
	{"nodev", true, unix.MS_NODEV}, {"dev", false, unix.MS_NODEV}, {"noexec", true, unix.MS_NOEXEC}, {"exec", false, unix.MS_NOEXEC},
	{"sync", true, unix.MS_SYNCHRONOUS}, {"noatime", true, unix.MS_NOATIME}, {"relatime", true, unix.MS_RELATIME},
	{"nodiratime", true, unix.MS_NODIRATIME}, {"bind", true, unix.MS_BIND}, {"rbind", true, unix.MS_BIND | unix.MS_REC},
}

func parseFlags(o string) (flags uintptr, data string) {
	var rest []string
next:
	for _, w := range strings.Split(o, ",") {
		for _, f := range mountFlags {
			if f.name == w {
				if flags &^= f.bits; f.set {
					flags |= f.bits
				}
				continue next
			}
		}
		if w != "" {
			rest = append(rest, w)
		}
	}
	return flags, strings.Join(rest, ",")
}

// imageFile has the data of a volume of limited size where the file system has no quotas.
const imageFile = "_data.img"

// mounts reports whether a volume is mounted on its folder while it is used.
func (s *Store) mounts(v *Volume) bool {
	if v.Options["size"] != "" {
		_, err := os.Lstat(s.path(v.Name, imageFile))
		return err == nil
	}
	return v.Options["device"] != ""
}

// Folder is where a volume is kept, "" if there is none, and whether a device is mounted in it while it is used.
func (s *Store) Folder(name string) (dir string, device bool) {
	v, err := s.Get(name)
	if err != nil {
		return "", false
	}
	return s.path(name), s.mounts(v)
}

// bound limits the size of a volume that is being made in a folder.
func (s *Store) bound(tmp string, size string) error {
	n, err := quota.Size(size)
	if err != nil {
		return err
	}
	return quota.Bound(filepath.Dir(s.dir), filepath.Join(tmp, "_data"), filepath.Join(tmp, imageFile), tmp, n)
}

// Mount mounts a volume that names a device on its folder, once, whoever asks first. A volume without a device is a
// plain folder and needs nothing.
func (s *Store) Mount(v *Volume) error {
	if !s.mounts(v) {
		return nil
	}
	lock, err := s.lock(v.Name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if mounted(v.Mountpoint, s.path(v.Name)) {
		return nil
	}
	if v.Options["device"] == "" {
		return quota.Mount(s.path(v.Name, imageFile), v.Mountpoint)
	}
	flags, data := parseFlags(v.Options["o"])
	kind, device := v.Options["type"], v.Options["device"]
	if strings.HasPrefix(kind, "nfs") || kind == "cifs" {
		if data, err = resolve(data); err != nil {
			return errs.Wrap("mount volume "+v.Name, err)
		}
	}
	mount := func(flags uintptr, data string) error {
		return trace.Step("mount", "the volume's data lie on a device of their own", "type", kind, "source", device, "target", v.Mountpoint, "data", data).
			Do(func() error { return unix.Mount(device, v.Mountpoint, kind, flags, data) })
	}
	if err := mount(flags, data); err != nil {
		return errs.Wrap(fmt.Sprintf("mount volume %s: %s on %s", v.Name, device, v.Mountpoint), err)
	}
	// A bind mount takes its other flags only from a second call (mount(2)).
	if keep := flags &^ (unix.MS_BIND | unix.MS_REC); flags&unix.MS_BIND != 0 && keep != 0 {
		if err := mount(keep|unix.MS_BIND|unix.MS_REMOUNT, ""); err != nil {
			_ = unix.Unmount(v.Mountpoint, unix.MNT_DETACH)
			return errs.Wrap("set options of volume "+v.Name, err)
		}
	}
	return nil
}

// resolve turns addr=NAME of network file systems into an address, which is all that the kernel takes.
func resolve(data string) (string, error) {
	opts := strings.Split(data, ",")
	for i, o := range opts {
		name, ok := strings.CutPrefix(o, "addr=")
		if !ok || net.ParseIP(name) != nil {
			continue
		}
		a, err := net.ResolveIPAddr("ip", name)
		if err != nil {
			return "", err
		}
		opts[i] = "addr=" + a.String()
	}
	return strings.Join(opts, ","), nil
}

// mounted compares the devices and mount ids of a folder and the one above it.
func mounted(dir, parent string) bool {
	var a, b unix.Statx_t
	const mask = unix.STATX_MNT_ID
	if unix.Statx(unix.AT_FDCWD, dir, 0, mask, &a) != nil || unix.Statx(unix.AT_FDCWD, parent, 0, mask, &b) != nil {
		return false
	}
	return a.Mnt_id != b.Mnt_id
}

// Unmount undoes Mount when no container has the volume any more.
func (s *Store) Unmount(name string, exists func(container string) bool) error {
	lock, err := s.lock(name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	for _, id := range s.Users(name) {
		if exists(id) {
			return nil
		}
	}
	return s.unmount(name)
}

func (s *Store) unmount(name string) error {
	for mounted(s.path(name, "_data"), s.path(name)) {
		err := trace.Step("umount", "no container uses the volume", "target", s.path(name, "_data")).
			Do(func() error { return unix.Unmount(s.path(name, "_data"), 0) })
		if err != nil {
			return errs.Wrap("unmount volume "+name, err)
		}
	}
	return nil
}
