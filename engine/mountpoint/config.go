//go:build linux

package mountpoint

import (
	"maps"
	"path"
	"slices"

	"github.com/moby/moby/api/types/container"
	docker "github.com/moby/moby/api/types/mount"
)

// Remember adds what further mounts were asked for to what a container was made with.
func Remember(h, more *container.HostConfig) {
	h.Binds, h.Mounts = slices.Concat(h.Binds, more.Binds), slices.Concat(h.Mounts, more.Mounts)
	if len(more.Tmpfs) > 0 {
		tmpfs := maps.Clone(h.Tmpfs)
		if tmpfs == nil {
			tmpfs = map[string]string{}
		}
		maps.Copy(tmpfs, more.Tmpfs)
		h.Tmpfs = tmpfs
	}
}

// Forget takes mounts out of what a container was made with.
func Forget(h *container.HostConfig, gone []Point) {
	at := func(target string) bool {
		return slices.ContainsFunc(gone, func(p Point) bool { return p.Destination == path.Clean(target) })
	}
	h.Binds = slices.DeleteFunc(slices.Clone(h.Binds), func(spec string) bool {
		m, err := ParseBind(spec)
		return err == nil && at(m.Destination)
	})
	h.Mounts = slices.DeleteFunc(slices.Clone(h.Mounts), func(m docker.Mount) bool { return at(m.Target) })
	h.Tmpfs = maps.Clone(h.Tmpfs)
	maps.DeleteFunc(h.Tmpfs, func(target, _ string) bool { return at(target) })
}
