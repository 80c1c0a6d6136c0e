//go:build linux

package quota

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/docker/go-units"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
	"github.com/berth-containers/berth/internal/trace"
)

// Bound bounds an empty folder to a size in bytes: as a project of the engine with this data root, which belongs to holder,
// or else with a file system of its own in the file image, which [Mount] mounts on it.
func Bound(root, dir, image, holder string, size int64) error {
	if !Supported(dir) {
		return MakeImage(image, size)
	}
	project, err := OpenProjects(root).Take(holder)
	if err != nil {
		return err
	}
	return Limit(dir, project, size)
}

// Mount mounts a file's file system on a folder, unless that is done. Without such a file it does nothing.
func Mount(image, dir string) error {
	if _, err := os.Lstat(image); err != nil {
		return nil
	}
	lock, err := flock.Exclusive(image + ".lock")
	if err != nil {
		return errs.Wrap("mount "+image, err)
	}
	defer lock.Unlock()
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return errs.Wrap("mount "+image, err)
	}
	if mounted(dir) {
		return nil
	}
	return MountImage(image, dir)
}

// mounted reports whether something is mounted on a folder.
func mounted(dir string) bool {
	var a, b unix.Statx_t
	return unix.Statx(unix.AT_FDCWD, dir, 0, unix.STATX_MNT_ID, &a) == nil && unix.Statx(unix.AT_FDCWD, filepath.Dir(dir), 0, unix.STATX_MNT_ID, &b) == nil && a.Mnt_id != b.Mnt_id
}

// Size reads a size of at least 1 MiB, as 10m.
func Size(text string) (int64, error) {
	n, err := units.RAMInBytes(text)
	if err != nil || n < 1<<20 {
		return 0, errs.Text(errs.Invalid, "invalid size: "+text).WithHint("1m is the least")
	}
	return n, nil
}

// MakeImage makes a file with an empty file system that takes so many bytes of files, and hardly more. Until it is written to
// it takes hardly any disk.
func MakeImage(file string, size int64) error {
	return trace.Step("mkfs.ext4", "the folder's file system has no project quotas: it gets one of its own, in a file", "file", file, "bytes", size).Do(func() error {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return errs.Wrap("make "+file, err)
		}
		defer f.Close()
		for whole, room := size, int64(0); room < size; whole += (size - room) * 51 / 50 { // the file system needs some for itself
			if room, err = format(f, (whole+slack)&^4095); err != nil {
				_ = os.Remove(file)
				return err
			}
		}
		return nil
	})
}

// slack is room for the folders of a write layer.
const slack = 16 << 10

// format makes a file system that fills a file of so many bytes, and tells how many of them can have files.
func format(f *os.File, whole int64) (room int64, err error) {
	if err := f.Truncate(whole); err != nil {
		return 0, errs.Wrap("make "+f.Name(), err)
	}
	// No journal: what a container writes is not worth more than on its host's. No reserve: all of it is the container's.
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0,root_owner=0:0", f.Name()).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return 0, errs.New(errs.Unsupported, "limit the size of a folder", fmt.Errorf("its file system has no project quotas, and %w", err)).
			WithHint("install e2fsprogs, or give the file system project quotas: mount -o prjquota")
	}
	if err != nil {
		return 0, errs.New(errs.Internal, "make file system in "+f.Name(), fmt.Errorf("%w: %s", err, bytes.TrimSpace(out)))
	}
	super := make([]byte, 1024) // Documentation/filesystems/ext4/super.rst
	if _, err := f.ReadAt(super, 1024); err != nil {
		return 0, errs.Wrap("make "+f.Name(), err)
	}
	number := func(low, high int) int64 {
		return int64(binary.LittleEndian.Uint32(super[high:]))<<32 | int64(binary.LittleEndian.Uint32(super[low:]))
	}
	blocks, free := number(0x4, 0x150), number(0xc, 0x158)
	free -= min(blocks/50, 4096) // the kernel keeps these for what it cannot foresee (ext4_calculate_resv_clusters)
	return free<<(10+super[0x18]) - slack, nil
}

// MountImage mounts a file's file system on a folder. The loop device goes with the mount.
func MountImage(file, dir string) error {
	return trace.Step("mount", "a folder whose size is that of a file", "file", file, "on", dir).Do(func() error {
		for range 32 { // another process may take the device that was found free
			device, err := attach(file)
			if err == unix.EBUSY {
				continue
			}
			if err != nil {
				return errs.Wrap("attach "+file+" to a loop device", err)
			}
			defer device.Close()
			if err := unix.Mount(device.Name(), dir, "ext4", unix.MS_NODEV|unix.MS_NOATIME, ""); err != nil {
				return errs.Wrap("mount "+file, err)
			}
			_ = os.Remove(dir + "/lost+found") // who finds the folder empty fills it
			return nil
		}
		return errs.Text(errs.Unavailable, "attach "+file+" to a loop device: others were faster each time")
	})
}

// attach finds a free loop device (loop(4)) and gives it the file; it is free again when nobody has it open or mounted.
func attach(file string) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, err
	}
	image, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer image.Close()
	device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	copy(config.Info.File_name[:], file)
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &config); err != nil {
		device.Close()
		return nil, err
	}
	return device, nil
}
