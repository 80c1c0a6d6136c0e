//go:build linux

package engine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	docker "github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/mount"
)

// findMounts collects what is to be mounted, makes the volumes that are not there, and fills the empty ones.
func (c *Container) findMounts(img *image.Image) error {
	if err := c.mountsFromOthers(); err != nil {
		return err
	}
	for _, spec := range c.HostConfig.Binds {
		m, err := mountpoint.ParseBind(spec)
		if err != nil {
			return err
		}
		if err := c.addMount(m, true); err != nil {
			return err
		}
	}
	for i := range c.HostConfig.Mounts {
		m, err := c.parseMount(&c.HostConfig.Mounts[i])
		if err != nil {
			return err
		}
		if err := c.addMount(m, c.HostConfig.Mounts[i].BindOptions != nil && c.HostConfig.Mounts[i].BindOptions.CreateMountpoint); err != nil {
			return err
		}
	}
	for destination, options := range c.HostConfig.Tmpfs {
		m := mountpoint.Point{Type: docker.TypeTmpfs, Destination: destination, Mode: options, RW: true, Options: mountpoint.TmpfsOptions(strings.Split(options, ","))}
		if err := c.addMount(m, false); err != nil {
			return err
		}
	}
	for destination := range c.Volumes { // of the image, and `-v /path`
		if c.mountAt(path.Clean(destination)) != nil {
			continue
		}
		if err := c.addMount(mountpoint.Point{Type: docker.TypeVolume, Destination: destination, RW: true}, false); err != nil {
			return err
		}
	}
	slices.SortStableFunc(c.Mounts, func(a, b mountpoint.Point) int { // what lies below something is mounted after it
		if n := strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/"); n != 0 {
			return n
		}
		return strings.Compare(a.Destination, b.Destination)
	})
	for i := range c.Mounts {
		if err := c.fillVolume(&c.Mounts[i]); err != nil {
			return err
		}
	}
	return c.settleOwners()
}

func (c *Container) mountAt(destination string) *mountpoint.Point {
	for i := range c.Mounts {
		if c.Mounts[i].Destination == destination {
			return &c.Mounts[i]
		}
	}
	return nil
}

// parseMount reads a --mount.
func (c *Container) parseMount(in *docker.Mount) (mountpoint.Point, error) {
	m := mountpoint.Point{Type: in.Type, Destination: in.Target, RW: !in.ReadOnly, IDMap: c.MountOwners[in.Target].IDMap, Own: c.MountOwners[in.Target].Own}
	bad := func(format string, args ...any) (mountpoint.Point, error) {
		return m, errs.Text(errs.Invalid, fmt.Sprintf("invalid mount config for type %q: ", in.Type)+fmt.Sprintf(format, args...))
	}
	if in.Target == "" {
		return bad("field Target must not be empty")
	}
	if err := mountpoint.CheckDestination(in.Target, in.Target); err != nil {
		return m, err
	}
	switch in.Type {
	case docker.TypeBind:
		if m.Source = in.Source; !filepath.IsAbs(m.Source) {
			return bad("invalid mount path: '%s' mount path must be absolute", m.Source)
		}
		if o := in.BindOptions; o != nil {
			m.Propagation = o.Propagation
			m.TopReadonly = o.ReadOnlyNonRecursive
			if o.NonRecursive {
				m.Options = append(m.Options, "bind")
			}
		}
	case mountpoint.TypeOverlay:
		if m.Source = in.Source; !filepath.IsAbs(m.Source) {
			return bad("invalid mount path: '%s' mount path must be absolute", m.Source)
		}
	case docker.TypeVolume:
		m.Name = in.Source
		if o := in.VolumeOptions; o != nil {
			m.NoCopy, m.Subpath = o.NoCopy, o.Subpath
			if o.DriverConfig != nil && m.Name != "" {
				if _, err := c.e.volumes.Create(m.Name, o.Labels, o.DriverConfig.Options); err != nil {
					return m, err
				}
			}
		}
	case docker.TypeTmpfs:
		if in.Source != "" {
			return bad("field Source must not be specified")
		}
		var own []string
		if o := in.TmpfsOptions; o != nil {
			if o.SizeBytes > 0 {
				own = append(own, "size="+strconv.FormatInt(o.SizeBytes, 10))
			}
			if o.Mode != 0 {
				own = append(own, "mode="+strconv.FormatUint(uint64(o.Mode&0o7777), 8))
			}
		}
		m.Options = mountpoint.TmpfsOptions(own)
	case docker.TypeImage:
		img, err := c.e.resolve(in.Source)
		if err != nil {
			return m, err
		}
		m.Image, m.RW, m.Source = img.ID, false, in.Source
	default:
		return bad("mount type unknown")
	}
	return m, nil
}

// addMount checks a mount and makes what it needs. A source that is not there is made for -v, as Docker does, and is
// an error for --mount.
func (c *Container) addMount(m mountpoint.Point, makeSource bool) error {
	m.Destination = path.Clean(m.Destination)
	if !path.IsAbs(m.Destination) || m.Destination == "/" {
		return errs.Text(errs.Invalid, "invalid mount path: '"+m.Destination+"' mount path must be absolute and not /")
	}
	if have := c.mountAt(m.Destination); have != nil && have.Mode != mountpoint.FromOther {
		return errs.Text(errs.Invalid, "Duplicate mount point: "+m.Destination)
	}
	if m.IDMap != "" && m.Type != docker.TypeBind && m.Type != docker.TypeVolume {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid mount config for type %q: idmap is for binds and volumes", m.Type))
	}
	switch m.Type {
	case docker.TypeBind, mountpoint.TypeOverlay:
		fi, err := os.Stat(m.Source)
		if errors.Is(err, fs.ErrNotExist) && makeSource {
			if err = os.MkdirAll(m.Source, 0o755); err == nil {
				c.Notes = append(c.Notes, "the folder "+m.Source+" did not exist and was made, for root; --mount refuses instead")
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return errs.Text(errs.Invalid, `invalid mount config for type "bind": bind source path does not exist: `+m.Source)
		}
		if err == nil && fi != nil && m.Type == mountpoint.TypeOverlay && !fi.IsDir() {
			err = errors.New("an overlay is for a folder")
		}
		if err != nil {
			return errs.New(errs.Invalid, "use "+m.Source, err)
		}
	case docker.TypeVolume:
		v, err := c.e.volumes.Create(m.Name, nil, nil)
		if m.Name != "" && errs.Is(err, errs.Conflict) { // it is there with options of its own
			v, err = c.e.volumes.Get(m.Name)
		}
		if err != nil {
			return err
		}
		if m.Name == "" {
			c.Anon = append(c.Anon, v.Name)
		}
		if err := c.e.volumes.Use(v.Name, c.ID); err != nil {
			return err
		}
		m.Name, m.Source = v.Name, v.Mountpoint
	}
	c.Mounts = slices.DeleteFunc(c.Mounts, func(have mountpoint.Point) bool { return have.Destination == m.Destination })
	c.Mounts = append(c.Mounts, m)
	return nil
}

// mountsFromOthers takes the volumes and bind mounts of other containers.
func (c *Container) mountsFromOthers() error {
	for _, spec := range c.HostConfig.VolumesFrom {
		name, mode, _ := strings.Cut(spec, ":")
		if mode != "" && mode != "ro" && mode != "rw" && mode != "z" && mode != "Z" {
			return errs.Text(errs.Invalid, fmt.Sprintf("invalid mode: %s", mode))
		}
		other, err := c.e.Lookup(name)
		if err != nil {
			return err
		}
		for _, m := range other.Mounts {
			if m.Type != docker.TypeBind && m.Type != docker.TypeVolume || c.mountAt(m.Destination) != nil {
				continue
			}
			m.RW, m.Mode = m.RW && mode != "ro", mountpoint.FromOther
			if m.Name != "" {
				if err := c.e.volumes.Use(m.Name, c.ID); err != nil {
					return err
				}
			}
			c.Mounts = append(c.Mounts, m)
		}
	}
	return nil
}

// fillVolume gives an empty volume what the image has at its place, as Docker does, owners and modes included.
func (c *Container) fillVolume(m *mountpoint.Point) error {
	if m.Type != docker.TypeVolume || m.NoCopy || m.Mode == mountpoint.FromOther || !emptyFolder(m.Source) {
		return nil
	}
	merged, err := mount.Overlay(mount.OverlayOptions{Lowers: c.Lowers})
	if err != nil {
		return err
	}
	defer merged.Close()
	folder, err := mount.RootAt(merged.File()).Open(m.Destination, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil // the image has nothing there
	}
	defer folder.Close()
	data, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return errs.Wrap("fill volume "+m.Name, err)
	}
	defer data.Close()
	return trace.Step("copy", "an empty volume begins with what the image has at its place", "volume", m.Name, "path", m.Destination).Do(func() error {
		if err := mount.CopyFolder(folder, data); err != nil {
			return err
		}
		return mount.CopyAttributes(folder, data)
	})
}

func emptyFolder(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return errors.Is(err, io.EOF)
}
