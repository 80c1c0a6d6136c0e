//go:build linux

// Package mountpoint reads what a user asked to see at places of a container: -v, --mount and --tmpfs.
package mountpoint

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	docker "github.com/moby/moby/api/types/mount"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/namespace"
)

// Point is one place in a container where something else than the image is seen.
type Point struct {
	Type        docker.Type // bind, volume, tmpfs, image, overlay
	Name        string      `json:",omitempty"` // of a volume
	Source      string      `json:",omitempty"` // on the host
	Destination string
	Mode        string   `json:",omitempty"` // as the user wrote it
	Options     []string `json:",omitempty"` // of the mount, in the specification's words
	RW          bool
	Propagation docker.Propagation `json:",omitempty"`
	Subpath     string             `json:",omitempty"`
	NoCopy      bool               `json:",omitempty"`
	Image       string             `json:",omitempty"` // id of a mounted image
	IDMap       IDMap              `json:",omitempty"` // owners are translated; "" are not
	UIDs        []namespace.IDMap  `json:",omitempty"` // the maps that were made of it; Host is an id of the host
	GIDs        []namespace.IDMap  `json:",omitempty"`
	Own         bool               `json:",omitempty"` // the source is given to the container's user
	TopReadonly bool               `json:",omitempty"` // what is mounted below it may be written
}

// TypeOverlay is a folder of the host under a layer of the container's own: it can be changed and stays as it was.
const TypeOverlay docker.Type = "overlay"

// FromOther marks what --volumes-from brought: one's own mounts replace it.
const FromOther = "from another container"

// TmpfsOptions are those of a tmpfs that a user asked for: no programs, no devices, no set-user-ID unless they say so.
func TmpfsOptions(own []string) []string {
	out := []string{"noexec", "nosuid", "nodev"}
	for _, o := range own {
		if o != "" {
			out = append(out, o)
		}
	}
	return out
}

// ParseBind reads [source:]destination[:options], the value of -v.
func ParseBind(spec string) (Point, error) {
	m := Point{RW: true}
	parts := strings.Split(spec, ":")
	switch len(parts) {
	case 1:
		m.Type, m.Destination = docker.TypeVolume, parts[0]
	case 2, 3:
		m.Source, m.Destination = parts[0], parts[1]
		if len(parts) == 2 && !path.IsAbs(parts[1]) && path.IsAbs(parts[0]) {
			m.Source, m.Destination, parts = "", parts[0], []string{"", parts[0], parts[1]}
		}
		m.Type = docker.TypeVolume
		if filepath.IsAbs(m.Source) {
			m.Type = docker.TypeBind
		} else {
			m.Name, m.Source = m.Source, ""
		}
	default:
		return m, errs.Text(errs.Invalid, fmt.Sprintf("invalid volume specification: '%s'", spec))
	}
	if len(parts) == 3 {
		m.Mode = parts[2]
		if err := m.useMode(spec); err != nil {
			return m, err
		}
	}
	return m, CheckDestination(spec, m.Destination)
}

func CheckDestination(spec, destination string) error {
	switch {
	case !path.IsAbs(destination):
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid volume specification: '%s': invalid mount config: mount path must be absolute", spec))
	case path.Clean(destination) == "/":
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid volume specification: '%s': invalid specification: destination can't be '/'", spec))
	}
	return nil
}

// useMode reads the options of -v: ro, rw, propagation, nocopy, idmap, U, O; z and Z, which label files for SELinux, are
// for hosts that have it.
func (m *Point) useMode(spec string) error {
	for _, o := range strings.Split(m.Mode, ",") {
		if name, value, _ := strings.Cut(o, "="); name == "idmap" {
			m.IDMap = IDMap(value)
			if value == "" {
				m.IDMap = "auto"
			}
			continue
		}
		switch o {
		case "rw", "z", "Z", "cached", "delegated", "consistent", "":
		case "ro", "readonly":
			m.RW = false
		case "U":
			m.Own = true
		case "O":
			if m.Type != docker.TypeBind {
				return errs.Text(errs.Invalid, fmt.Sprintf("invalid volume specification: '%s': O is for a folder of the host", spec))
			}
			m.Type = TypeOverlay
		case "nocopy":
			m.NoCopy = true
		case "shared", "rshared", "slave", "rslave", "private", "rprivate":
			m.Propagation = docker.Propagation(o)
		case "noexec", "nosuid", "nodev", "exec", "suid", "dev", "noatime":
			m.Options = append(m.Options, o)
		default:
			return errs.Text(errs.Invalid, fmt.Sprintf("invalid volume specification: '%s': invalid mode: %s", spec, m.Mode))
		}
	}
	return nil
}
