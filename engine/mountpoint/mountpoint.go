//go:build linux

// Package mountpoint reads what a user asked to see at places of a container: -v, --mount and --tmpfs.
package mountpoint

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	docker "github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
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
	m := Point{Type: docker.TypeVolume, RW: true}
	parts := strings.Split(spec, ":")
	if slices.Contains(parts, "") || len(parts) > 3 {
		return m, badBind(spec, "")
	}
	switch {
	case len(parts) == 1:
		parts = []string{"", parts[0], ""}
	case len(parts) == 2 && path.IsAbs(parts[0]) && !path.IsAbs(parts[1]): // an anonymous volume with options
		parts = []string{"", parts[0], parts[1]}
	case len(parts) == 2:
		parts = append(parts, "")
	}
	m.Destination, m.Mode = parts[1], parts[2]
	if filepath.IsAbs(parts[0]) {
		m.Type, m.Source = docker.TypeBind, parts[0]
	} else {
		m.Name = parts[0]
	}
	if err := CheckDestination(spec, m.Destination); err != nil {
		return m, err
	}
	return m, m.useMode(spec)
}

// badBind is a -v that cannot be meant.
func badBind(spec, why string) error {
	if why != "" {
		why = ": " + why
	}
	return badField("invalid volume specification: '%s'%s", spec, why)
}

func badField(format string, args ...any) error {
	return errs.Text(errs.Invalid, fmt.Sprintf(format, args...))
}

func CheckDestination(spec, destination string) error {
	switch {
	case !path.IsAbs(destination):
		return badBind(spec, "invalid mount config: mount path must be absolute")
	case path.Clean(destination) == "/":
		return badBind(spec, "invalid specification: destination can't be '/'")
	}
	return nil
}

// Shared and Private report whether -v says z or Z: on a host with SELinux the files get the context of all containers'
// files, or that of this one's alone.
func (m *Point) Shared() bool  { return slices.Contains(strings.Split(m.Mode, ","), "z") }
func (m *Point) Private() bool { return slices.Contains(strings.Split(m.Mode, ","), "Z") }

// useMode reads the options of -v: ro, rw, propagation, nocopy, idmap, U, O, z, Z. Of those that exclude each other one
// is taken.
func (m *Point) useMode(spec string) error {
	var access, propagation, labels int
	for _, o := range strings.Split(m.Mode, ",") {
		if name, value, _ := strings.Cut(o, "="); name == "idmap" {
			m.IDMap = IDMap(value)
			if value == "" {
				m.IDMap = "auto"
			}
			continue
		}
		switch o {
		case "cached", "delegated", "consistent", "":
		case "z", "Z":
			labels++
		case "rw":
			access++
		case "ro", "readonly":
			m.RW = false
			access++
		case "U":
			m.Own = true
		case "O":
			if m.Type != docker.TypeBind {
				return badBind(spec, "O is for a folder of the host")
			}
			m.Type = TypeOverlay
		case "nocopy":
			if m.Type != docker.TypeVolume {
				return badBind(spec, "nocopy is for volumes")
			}
			m.NoCopy = true
		case "shared", "rshared", "slave", "rslave", "private", "rprivate":
			if m.Type != docker.TypeBind {
				return badBind(spec, o+" is for a folder of the host")
			}
			m.Propagation = docker.Propagation(o)
			propagation++
		case "noexec", "nosuid", "nodev", "exec", "suid", "dev", "noatime":
			m.Options = append(m.Options, o)
		default:
			return badBind(spec, "invalid mode: "+m.Mode)
		}
	}
	if access > 1 || propagation > 1 || labels > 1 {
		return badBind(spec, "invalid mode: "+m.Mode)
	}
	return nil
}

// Parse reads a --mount, in the type of Docker's API, with what that cannot hold.
func Parse(in *docker.Mount, owner Owner) (Point, error) {
	m := Point{Type: in.Type, Destination: in.Target, RW: !in.ReadOnly, IDMap: owner.IDMap, Own: owner.Own}
	bad := func(format string, args ...any) (Point, error) {
		return m, errs.Text(errs.Invalid, fmt.Sprintf("invalid mount config for type %q: ", in.Type)+fmt.Sprintf(format, args...))
	}
	if in.Target == "" {
		return bad("field Target must not be empty")
	}
	if err := CheckDestination(in.Target, in.Target); err != nil {
		return m, err
	}
	switch in.Type {
	case docker.TypeBind:
		if m.Source = in.Source; m.Source == "" {
			return bad("field Source must not be empty")
		}
		if !filepath.IsAbs(m.Source) {
			return bad("invalid mount path: '%s' mount path must be absolute", m.Source)
		}
		if o := in.BindOptions; o != nil {
			if m.Propagation = o.Propagation; m.Propagation != "" && mount.Propagation(string(m.Propagation)) == 0 {
				return bad("invalid propagation mode '%s'", m.Propagation)
			}
			m.TopReadonly = o.ReadOnlyNonRecursive
			if o.NonRecursive {
				m.Options = append(m.Options, "bind")
			}
		}
	case TypeOverlay:
		if m.Source = in.Source; !filepath.IsAbs(m.Source) {
			return bad("invalid mount path: '%s' mount path must be absolute", m.Source)
		}
	case docker.TypeVolume:
		m.Name = in.Source
		if o := in.VolumeOptions; o != nil {
			m.NoCopy, m.Subpath = o.NoCopy, o.Subpath
		}
		switch {
		case m.Name == "" && m.Subpath != "":
			return bad("must not set Subpath when using anonymous volumes")
		case m.Name == "" && in.ReadOnly:
			return bad("must not set ReadOnly mode when using anonymous volumes")
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
		m.Options = TmpfsOptions(own)
	case docker.TypeImage:
		if m.RW, m.Source = false, in.Source; m.Source == "" {
			return bad("field Source must not be empty")
		}
		if o := in.ImageOptions; o != nil {
			m.Subpath = o.Subpath
		}
	default:
		return bad("mount type unknown")
	}
	return m, nil
}

// Subpath finds a folder or file inside of a volume. What is in a volume was written by containers: a link in it must
// not lead out (CVE-2017-1002101).
func Subpath(volume, below string) (string, error) {
	if filepath.IsAbs(below) || !filepath.IsLocal(below) {
		return "", errs.Text(errs.Invalid, "subpath must be a relative path within the volume")
	}
	root, err := mount.OpenRoot(volume)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := root.Open(below, unix.O_PATH)
	if err != nil {
		return "", errs.New(errs.Invalid, "cannot access path "+below+" in volume", err)
	}
	defer f.Close()
	return os.Readlink(mount.HandlePath(f))
}
