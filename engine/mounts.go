//go:build linux

package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/mount"

	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/volume"
)

// findMounts collects what is to be mounted, makes the volumes that are not there, and fills the empty ones.
func (c *Container) findMounts() error {
	have := len(c.Mounts) // a container that is changed has some
	if err := checkDriver(c.HostConfig.VolumeDriver); err != nil {
		return err
	}
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
	fresh := map[string]bool{}
	for _, m := range c.Mounts[have:] {
		fresh[m.Destination] = true
	}
	slices.SortStableFunc(c.Mounts, func(a, b mountpoint.Point) int { // what lies below something is mounted after it
		if n := strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/"); n != 0 {
			return n
		}
		return strings.Compare(a.Destination, b.Destination)
	})
	for i := range c.Mounts {
		if !fresh[c.Mounts[i].Destination] {
			continue
		}
		if err := c.fillVolume(&c.Mounts[i]); err != nil {
			return err
		}
	}
	return c.settleOwners(fresh)
}

func (c *Container) mountAt(destination string) *mountpoint.Point {
	for i := range c.Mounts {
		if c.Mounts[i].Destination == destination {
			return &c.Mounts[i]
		}
	}
	return nil
}

// parseMount reads a --mount; a volume with a driver's options is made, an image is looked up.
func (c *Container) parseMount(in *docker.Mount) (mountpoint.Point, error) {
	m, err := mountpoint.Parse(in, c.MountOwners[in.Target])
	if err != nil {
		return m, err
	}
	if o := in.VolumeOptions; m.Type == docker.TypeVolume && o != nil && (o.DriverConfig != nil || len(o.Labels) > 0) {
		var driver docker.Driver
		if o.DriverConfig != nil {
			driver = *o.DriverConfig
		}
		v, err := c.e.CreateVolume(m.Name, driver.Name, o.Labels, driver.Options)
		if err != nil {
			return m, err
		}
		if m.Name == "" {
			c.Anon = append(c.Anon, v.Name)
		}
		m.Name = v.Name
	}
	if m.Type == docker.TypeImage {
		img, err := c.e.resolve(in.Source)
		if err != nil {
			return m, err
		}
		m.Image = img.ID
		if m.Subpath != "" {
			lowers, err := c.e.images.Lowers(img)
			if err != nil {
				return m, err
			}
			if _, err := layer.Below(lowers, m.Subpath); err != nil {
				return m, err
			}
		}
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
	c.Mounts = slices.DeleteFunc(c.Mounts, func(have mountpoint.Point) bool {
		if have.Destination == m.Destination && have.Name != "" && have.Name != m.Name {
			c.e.volumes.Release(have.Name, c.ID)
		}
		return have.Destination == m.Destination
	})
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
				if slices.Contains(other.Anon, m.Name) { // it goes with the last one who has it
					c.Anon = append(c.Anon, m.Name)
				}
			}
			c.Mounts = append(c.Mounts, m)
		}
	}
	return nil
}

// fillVolume gives an empty volume what the image has at its place, as Docker does, owners and modes included.
func (c *Container) fillVolume(m *mountpoint.Point) error {
	if m.Type != docker.TypeVolume || m.NoCopy || m.Mode == mountpoint.FromOther {
		return nil
	}
	v, err := c.e.volumes.Get(m.Name)
	if err == nil {
		err = c.e.volumes.Mount(v)
	}
	if err != nil || !volume.Empty(m.Source) {
		return err
	}
	origin, err := m.Origin(c.Lowers)
	if err != nil || origin == nil {
		return err
	}
	defer origin.Close()
	return c.e.volumes.Begin(v, c.ID, func(data string) error { return m.Fill(origin, data) })
}

// settleOwners decides whose the files of mounts are.
func (c *Container) settleOwners(fresh map[string]bool) error {
	if len(fresh) == 0 {
		return nil
	}
	u, _, err := c.findUser(c.Process.User, c.HostConfig.GroupAdd)
	if err != nil {
		return nil // the start says it, as without mounts
	}
	user := mountpoint.User{UID: u.UID, GID: u.GID, Groups: u.AdditionalGids}
	if c.IDRange != nil {
		user.Range = c.IDRange
	}
	for i := range c.Mounts {
		if !fresh[c.Mounts[i].Destination] {
			continue
		}
		v, err := c.e.volumes.Get(c.Mounts[i].Name)
		note, err := c.Mounts[i].Settle(&user, err == nil && v.Options["device"] == "")
		if err != nil {
			return err
		}
		if note != "" {
			c.Notes = append(c.Notes, note)
		}
	}
	return nil
}
