//go:build linux

package engine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	docker "github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
)

// addMounts lists the file systems that every container has, then the user's.
func (c *Container) addMounts(s *specs.Spec) error {
	h := &c.HostConfig
	sys, cgroup := "ro", "ro"
	if h.Privileged {
		sys, cgroup = "rw", "rw"
	}
	all := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", cgroup}},
		// The queues of the IPC namespace that the container is in.
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	shm, err := c.sharedMemory()
	if err != nil {
		return err
	}
	all = append(all, shm...)
	for _, f := range c.networkFiles() {
		all = append(all, specs.Mount{Destination: "/etc/" + filepath.Base(f), Type: "bind", Source: f, Options: []string{"bind", "nosuid", "nodev", "noexec"}})
	}
	secrets, err := c.placeSecrets()
	if err != nil {
		return err
	}
	for _, m := range c.Mounts {
		own, err := c.ownMount(&m)
		if err != nil {
			return err
		}
		// The user's mounts take the place of ours.
		for i := range all {
			if all[i].Destination == own.Destination {
				all = append(all[:i], all[i+1:]...)
				break
			}
		}
		all = append(all, own)
	}
	s.Mounts = append(all, secrets...)
	return nil
}

// placeSecrets writes the secrets into the state folder, which is in memory, and lists their mounts.
func (c *Container) placeSecrets() (out []specs.Mount, err error) {
	for i := range c.Secrets {
		s := &c.Secrets[i]
		uid, gid := s.UID, s.GID
		if c.IDRange != nil {
			uid, gid = uid+c.IDRange.UID, gid+c.IDRange.GID
		}
		file, err := s.Place(filepath.Join(c.runDir(), secretsFolder), filepath.Join(c.dataDir(), secretsFolder), uid, gid)
		if err != nil {
			return nil, err
		}
		out = append(out, specs.Mount{Destination: s.Target, Type: "bind", Source: file, Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}})
	}
	return out, nil
}

const secretsFolder = "secrets"

// sharedMemory is /dev/shm: the container's own, the host's, or that of the container whose IPC namespace it shares.
func (c *Container) sharedMemory() ([]specs.Mount, error) {
	h := &c.HostConfig
	bind := func(from string) []specs.Mount {
		return []specs.Mount{{Destination: "/dev/shm", Type: "bind", Source: from, Options: []string{"rbind", "nosuid", "noexec", "nodev"}}}
	}
	switch {
	case h.IpcMode.IsHost():
		return bind("/dev/shm"), nil
	case h.IpcMode.IsContainer():
		other, err := c.e.Lookup(h.IpcMode.Container())
		if err != nil {
			return nil, err
		}
		pid, err := other.pid()
		if err != nil {
			return nil, errs.Wrap("share memory of container "+h.IpcMode.Container(), err)
		}
		return bind(fmt.Sprintf("/proc/%d/root/dev/shm", pid)), nil
	case h.IpcMode.IsNone():
		return nil, nil
	}
	size := h.ShmSize
	if size <= 0 {
		size = defaultShmSize
	}
	options := []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size, 10)}
	return []specs.Mount{{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: options}}, nil
}

// defaultShmSize is the size of /dev/shm in bytes, as Docker's.
const defaultShmSize = 64 << 20

// ownMount translates one mount of the user's.
func (c *Container) ownMount(m *mountpoint.Point) (specs.Mount, error) {
	out := specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Source}
	switch m.Type {
	case docker.TypeTmpfs:
		out.Type, out.Source, out.Options = "tmpfs", "tmpfs", m.Options
		if !m.RW {
			out.Options = append(out.Options, "ro")
		}
		return out, nil
	case docker.TypeVolume:
		v, err := c.e.volumes.Get(m.Name)
		if err != nil {
			return out, err
		}
		if err := c.e.volumes.Mount(v); err != nil {
			return out, err
		}
		out.Source = v.Mountpoint
		if m.Subpath != "" {
			if out.Source, err = mountpoint.Subpath(v.Mountpoint, m.Subpath); err != nil {
				return out, err
			}
			out.Options = []string{mount.NoSymlinks}
		}
	case mountpoint.TypeOverlay:
		return m.Overlay(c.overlayDir(m))
	case docker.TypeImage:
		img, err := c.e.images.Resolve(m.Image)
		if err != nil {
			return out, err
		}
		lowers, err := c.e.images.Lowers(img)
		if err != nil {
			return out, err
		}
		if m.Subpath != "" {
			if lowers, err = layer.Below(lowers, m.Subpath); err != nil {
				return out, err
			}
		}
		if fi, err := os.Stat(lowers[0]); len(lowers) == 1 && (c.IDRange == nil || err == nil && !fi.IsDir()) {
			out.Source = lowers[0]
			break
		}
		out.Type, out.Source = "overlay", "overlay"
		out.Options = []string{"ro", "lowerdir=" + mount.JoinLayers(lowers)}
		return out, nil
	default:
		if _, err := os.Stat(m.Source); errors.Is(err, fs.ErrNotExist) {
			return out, errs.Text(errs.Invalid, `invalid mount config for type "bind": bind source path does not exist: `+m.Source)
		}
		if err := m.CheckPropagation(); err != nil {
			return out, err
		}
	}
	m.AddOptions(&out)
	return out, nil
}

// overlayDir has the layer of an overlay mount. Its name is of the target, which may be of any length.
func (c *Container) overlayDir(m *mountpoint.Point) string {
	return filepath.Join(c.dataDir(), "overlay", fmt.Sprintf("%x", sha256.Sum256([]byte(m.Destination)))[:16])
}
