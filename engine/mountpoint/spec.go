//go:build linux

package mountpoint

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
)

// AddOptions gives a bind mount of the specification what the user asked of it.
func (m *Point) AddOptions(out *specs.Mount) {
	if !slices.Contains(m.Options, "bind") {
		out.Options = append(out.Options, "rbind")
	}
	out.Options = append(out.Options, m.Options...)
	switch {
	case !m.RW && m.TopReadonly:
		out.Options = append(out.Options, "ro")
	case !m.RW:
		out.Options = append(out.Options, "rro") // as Docker: what is mounted below is read-only as well
	}
	if m.Propagation != "" {
		out.Options = append(out.Options, string(m.Propagation))
	} else {
		out.Options = append(out.Options, "rprivate")
	}
	if len(m.UIDs) > 0 {
		out.Options = append(out.Options, "idmap")
		out.UIDMappings, out.GIDMappings = specMaps(m.UIDs), specMaps(m.GIDs)
	}
}

func specMaps(maps []namespace.IDMap) (out []specs.LinuxIDMapping) {
	for _, m := range maps {
		out = append(out, specs.LinuxIDMapping{ContainerID: m.Container, HostID: m.Host, Size: m.Size})
	}
	return out
}

// Overlay shows a folder of the host under a layer of the container's own, which lies in dir and goes with the container.
func (m *Point) Overlay(dir string) (specs.Mount, error) {
	for _, d := range []string{"fs", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o711); err != nil {
			return specs.Mount{}, errs.Wrap("make layer for "+m.Destination, err)
		}
	}
	var st unix.Stat_t // the top of what is seen is the upper folder's
	if err := unix.Stat(m.Source, &st); err != nil {
		return specs.Mount{}, errs.New(errs.Invalid, "use "+m.Source, err)
	}
	upper := filepath.Join(dir, "fs")
	if err := errors.Join(os.Chown(upper, int(st.Uid), int(st.Gid)), unix.Chmod(upper, st.Mode&0o7777)); err != nil {
		return specs.Mount{}, errs.Wrap("make layer for "+m.Destination, err)
	}
	out := specs.Mount{Destination: m.Destination, Type: "overlay", Source: "overlay",
		Options: []string{"lowerdir=" + mount.JoinLayers([]string{m.Source}), "upperdir=" + upper, "workdir=" + filepath.Join(dir, "work")}}
	if !m.RW {
		out.Options = append(out.Options, "ro")
	}
	return out, nil
}
