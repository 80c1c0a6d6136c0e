//go:build linux

// Package devices gives containers devices of the host: nodes that a user names, and what the files of the Container Device
// Interface (CDI) say that a device needs.
package devices

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Add adds a device, or all devices in a folder.
func Add(s *specs.Spec, d docker.DeviceMapping) error {
	inside := d.PathInContainer
	if inside == "" {
		inside = d.PathOnHost
	}
	access := d.CgroupPermissions
	if access == "" {
		access = "rwm"
	}
	return filepath.WalkDir(d.PathOnHost, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return errs.New(errs.Invalid, "add device "+d.PathOnHost, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(file, &st); err != nil {
			return errs.New(errs.Invalid, "add device "+file, err)
		}
		kind, ok := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[st.Mode&unix.S_IFMT]
		if !ok {
			if file == d.PathOnHost && !entry.IsDir() {
				return errs.New(errs.Invalid, "add device "+file, errors.New("not a device node"))
			}
			return nil
		}
		major, minor := int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		mode := os.FileMode(st.Mode & 0o777)
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{
			Path: filepath.Join(inside, strings.TrimPrefix(file, d.PathOnHost)), Type: kind, Major: major, Minor: minor, FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
		})
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: &major, Minor: &minor, Access: access})
		return nil
	})
}

// All shows a privileged container every device of the host.
func All(s *specs.Spec) error {
	skip := []string{"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/console", "/dev/ptmx", "/dev/fd"}
	return filepath.WalkDir("/dev", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it went away meanwhile
		}
		if slices.Contains(skip, file) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.Type()&fs.ModeDevice == 0 {
			return nil
		}
		return Add(s, docker.DeviceMapping{PathOnHost: file})
	})
}
