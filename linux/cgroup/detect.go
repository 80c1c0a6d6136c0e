//go:build linux

package cgroup

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/listing"
)

// Mountpoint is where the hierarchies are found.
const Mountpoint = "/sys/fs/cgroup"

// Mode is how a host has mounted its control groups.
type Mode int

const (
	V1     Mode = iota + 1 // controllers on version 1 alone
	Hybrid                 // controllers on version 1, a hierarchy of version 2 beside them
	V2                     // version 2 alone
)

func (m Mode) String() string { return [...]string{"unknown", "v1", "hybrid", "v2"}[m] }

// Detect looks at what is mounted (statfs(2)), not at what the kernel could do.
func Detect() (Mode, error) { return detect(Mountpoint) }

func detect(root string) (Mode, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return 0, errs.Wrap("find control groups at "+root, err)
	}
	switch {
	case fs.Type == unix.CGROUP2_SUPER_MAGIC:
		return V2, nil
	case unix.Statfs(filepath.Join(root, "unified"), &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC:
		return Hybrid, nil
	case len(hierarchies(root)) > 0:
		return V1, nil
	}
	return 0, errs.New(errs.Unsupported, "find control groups at "+root, fmt.Errorf("none are mounted")).
		WithHint("mount -t cgroup2 cgroup2 /sys/fs/cgroup")
}

// hierarchy is one mounted hierarchy of version 1.
type hierarchy struct {
	controller string // "memory", or "systemd" for the named one without controllers
	dir        string
}

// hierarchies lists the mounted hierarchies of version 1. A controller that shares its hierarchy with another is found
// by the link with its name that every distribution makes (cpu → cpu,cpuacct); each hierarchy comes once.
func hierarchies(root string) []hierarchy {
	es, err := listing.Folder(root)
	if err != nil {
		return nil
	}
	var out []hierarchy
	seen := map[string]bool{}
	for _, e := range es {
		dir, err := filepath.EvalSymlinks(filepath.Join(root, e.Name()))
		var fs unix.Statfs_t
		if err != nil || seen[dir] || unix.Statfs(dir, &fs) != nil || fs.Type != unix.CGROUP_SUPER_MAGIC {
			continue
		}
		seen[dir] = true
		out = append(out, hierarchy{e.Name(), dir})
	}
	return out
}

// Hierarchy is one mounted hierarchy of version 1, as a container is shown it.
type Hierarchy struct {
	Name    string   // of its folder: "cpu,cpuacct", "systemd"
	Dir     string   // where the host has it
	Aliases []string // links to it: "cpu", "cpuacct"
}

// Hierarchies lists the hierarchies of version 1 with the links that name their controllers.
func Hierarchies() []Hierarchy {
	byDir := map[string]*Hierarchy{}
	var order []string
	es, _ := listing.Folder(Mountpoint)
	for _, h := range hierarchies(Mountpoint) {
		byDir[h.dir] = &Hierarchy{Name: filepath.Base(h.dir), Dir: h.dir}
		order = append(order, h.dir)
	}
	for _, e := range es {
		dir, err := filepath.EvalSymlinks(filepath.Join(Mountpoint, e.Name()))
		if h := byDir[dir]; err == nil && h != nil && e.Name() != h.Name {
			h.Aliases = append(h.Aliases, e.Name())
		}
	}
	out := make([]Hierarchy, len(order))
	for i, dir := range order {
		out[i] = *byDir[dir]
	}
	return out
}

// Controllers is how /proc/PID/cgroup names the hierarchy.
func (h Hierarchy) Controllers() string {
	if h.Name == "systemd" {
		return "name=systemd"
	}
	return h.Name
}

// Options are the mount options that mean this hierarchy.
func (h Hierarchy) Options() []string { return strings.Split(h.Controllers(), ",") }
