//go:build linux

package cgroup

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Group is one control group: a folder in each hierarchy of version 1, or one of version 2. It need not exist yet.
type Group struct {
	state State
	dir   *os.File // version 2, once asked for
}

// State is what a later process needs to find a group again.
type State struct {
	Version int               `json:"version"` // 1 or 2
	Path    string            `json:"path"`    // below the hierarchy's root, absolute
	Dirs    map[string]string `json:"dirs"`    // controller → folder; version 2 has one, named ""
	Unit    *Unit             `json:"unit,omitempty"`
}

// New names a group by a path below the root of each hierarchy, as the specification's cgroupsPath. Whatever dots are in
// it, it stays there.
func New(cgroupsPath string) (*Group, error) {
	mode, err := Detect()
	if err != nil {
		return nil, err
	}
	p := path.Clean("/" + cgroupsPath)
	if p == "/" || strings.ContainsAny(p, "\n\x00") {
		return nil, errs.New(errs.Invalid, "name control group", fmt.Errorf("%q is no path for a group", cgroupsPath))
	}
	s := State{Version: 1, Path: p, Dirs: map[string]string{}}
	if mode == V2 {
		s.Version, s.Dirs[""] = 2, Mountpoint+p
	} else {
		for _, h := range hierarchies(Mountpoint) {
			s.Dirs[h.controller] = h.dir + p
		}
	}
	return &Group{state: s}, nil
}

// Load finds a group again.
func Load(s State) *Group { return &Group{state: s} }

// State describes the group for a later process.
func (g *Group) State() State { return g.state }

// Path is the group's path below the root of its hierarchies.
func (g *Group) Path() string { return g.state.Path }

// V2 reports whether the group is one of version 2.
func (g *Group) V2() bool { return g.state.Version == 2 }

// dirOf returns the folder that holds a controller's files; "" when the host does not have the controller.
func (g *Group) dirOf(controller string) string {
	if g.V2() {
		return g.state.Dirs[""]
	}
	if d, ok := g.state.Dirs[controller]; ok {
		return d
	}
	// A hierarchy with several controllers is known by one of their names.
	for name, d := range g.state.Dirs {
		for _, c := range strings.Split(name, ",") {
			if c == controller {
				return d
			}
		}
	}
	if controller == "cpuacct" || controller == "cpu" {
		return g.state.Dirs["cpu,cpuacct"]
	}
	return ""
}

// any is the folder whose members are taken for the group's: each has the same ones.
func (g *Group) any() string {
	for _, c := range []string{"", "pids", "memory", "freezer", "devices", "cpu", "systemd"} {
		if d, ok := g.state.Dirs[c]; ok {
			return d
		}
	}
	for _, d := range g.state.Dirs {
		return d
	}
	return ""
}

// Below finds groups below g, which must be there: PATH in every hierarchy, or CONTROLLER[,CONTROLLER]:PATH in some,
// and g itself in the others (version 1).
func (g *Group) Below(words []string) (*Group, error) {
	bad := func(format string, args ...any) error {
		return errs.New(errs.Invalid, "find control group below "+g.Path(), fmt.Errorf(format, args...))
	}
	s := g.state
	s.Dirs = maps.Clone(s.Dirs)
	for _, word := range words {
		controllers, sub, some := strings.Cut(word, ":")
		if !some {
			controllers, sub = "", word
		}
		switch {
		case slices.Contains(strings.Split(sub, "/"), ".."): // it would be a group of others
			return nil, bad("bad sub cgroup path: %s", sub)
		case some && g.V2() || !some && len(words) > 1:
			return nil, bad("%q: want one path, or with version 1 CONTROLLER:PATH for each of some controllers", word)
		case !some:
			s.Path = path.Join(s.Path, sub)
		}
		for c := range strings.SplitSeq(controllers, ",") {
			if some && g.dirOf(c) == "" {
				return nil, bad("unknown controller %s", c)
			}
			for name, dir := range g.state.Dirs {
				if !some || dir == g.dirOf(c) {
					s.Dirs[name] = path.Join(dir, sub)
				}
			}
		}
	}
	for _, c := range sortedKeys(s.Dirs) {
		if _, err := os.Stat(s.Dirs[c]); err != nil {
			return nil, bad("while adding pid to it: %w", err)
		}
	}
	return &Group{state: s}, nil
}

// Exists reports whether the group is there.
func (g *Group) Exists() bool {
	_, err := os.Stat(g.any())
	return err == nil
}

// setting is one value for one file of a controller.
type setting struct{ controller, file, value string }

// Set applies limits. A limit that the kernel refuses is an error that names file, value and reason; those before it
// are in force. A nil part of r changes nothing.
func (g *Group) Set(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	if g.state.Unit != nil {
		return g.setUnit(r)
	}
	settings, err := g.settings(r)
	if err != nil {
		return err
	}
	return g.apply(r.Devices, settings)
}

// ofUser reports whether the group is one of a user's systemd.
func (g *Group) ofUser() bool { return g.state.Unit != nil && g.state.Unit.User }

// apply writes rules for devices, and then settings.
func (g *Group) apply(rules []specs.LinuxDeviceCgroup, settings []setting) error {
	// Who is not root loads no filter, and cannot open devices but by nodes that are there.
	if err := g.setDevices(rules); err != nil && !(g.ofUser() && isErrno(err, unix.EPERM)) {
		return err
	}
	for _, s := range settings {
		if err := g.write(s, "limit: the kernel holds the container to it"); err != nil {
			return err
		}
	}
	return nil
}

// settings translates limits into files and values, in the order in which they have to be written.
func (g *Group) settings(r *specs.LinuxResources) ([]setting, error) {
	var out []setting
	parts := []func(*specs.LinuxResources) ([]setting, error){cpusetV1, cpuV1, g.memoryV1, pidsV1, g.ioV1, hugetlbV1, rdma, netV1}
	if g.V2() {
		parts = []func(*specs.LinuxResources) ([]setting, error){cpusetV2, cpuV2, g.memoryV2, pidsV2, g.ioV2, hugetlbV2, rdma, unified}
	} else if len(r.Unified) > 0 {
		return nil, errs.New(errs.Unsupported, "limit container", fmt.Errorf("invalid configuration: unified resources need cgroup v2, this host has v1"))
	}
	for _, part := range parts {
		s, err := part(r)
		if err != nil {
			return nil, err
		}
		out = append(out, s...)
	}
	return out, nil
}

// write writes one value with one write(2), as these files want it.
func (g *Group) write(s setting, why string) error {
	dir := g.dirOf(s.controller)
	if dir == "" {
		return errs.New(errs.Unsupported, "set "+s.file+" to "+s.value, fmt.Errorf("this host does not have the controller %s", s.controller))
	}
	file := dir + "/" + s.file
	err := trace.Step("write", why, "file", file, "value", s.value).Do(func() error {
		if s.file == realTime {
			return writeRealTime(dir, s.value)
		}
		return writeFile(file, s.value)
	})
	return refused(s, file, err)
}

func writeFile(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for {
		_, err = f.WriteString(value)
		if err == nil || !isErrno(err, unix.EINTR) {
			break
		}
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// refused explains the kernel's bare error number.
func refused(s setting, file string, err error) error {
	if err == nil {
		return nil
	}
	op := "set " + file + " to " + s.value
	kind := errs.Invalid
	var why string
	switch {
	case isErrno(err, unix.ENOENT):
		kind, why = errs.Unsupported, "this kernel does not have the file"
	case isErrno(err, unix.EBUSY) && strings.HasPrefix(s.file, "memory."):
		why = "the group uses more memory than that and it cannot be reclaimed"
	case isErrno(err, unix.ENOSPC) && s.controller == "cpuset":
		why = "the group has no CPU or memory node then"
	case isErrno(err, unix.EACCES) && s.controller == "cpuset":
		why = "the group above does not have all of them"
	case isErrno(err, unix.ENODEV):
		why = "it is not a disk, or a part of one"
	case isErrno(err, unix.EOPNOTSUPP) && strings.Contains(s.file, "weight"):
		kind, why = errs.Unsupported, "the disk's scheduler has no weights; bfq has: /sys/block/DISK/queue/scheduler"
	case isErrno(err, unix.EINVAL) && s.file == realTime:
		why = "the group above has not so much real time left: " + path.Dir(path.Dir(file)) + "/" + realTime
	case isErrno(err, unix.ERANGE), isErrno(err, unix.EINVAL):
		why = "the kernel refuses the value"
	case isErrno(err, unix.EACCES), isErrno(err, unix.EPERM), isErrno(err, unix.EROFS):
		kind, why = errs.Permission, "the file cannot be written"
	default:
		return errs.Wrap(op, unwrapErrno(err))
	}
	return errs.New(kind, op, fmt.Errorf("%s (%w)", why, unwrapErrno(err)))
}

// unified writes files of version 2 by name, as the specification's resources.unified.
func unified(r *specs.LinuxResources) ([]setting, error) {
	var out []setting
	for _, k := range sortedKeys(r.Unified) {
		if strings.ContainsAny(k, "/\x00") || !strings.Contains(k, ".") {
			return nil, errs.New(errs.Invalid, "limit container", fmt.Errorf("unified resource %q must be a file name without slash", k))
		}
		for _, line := range strings.Split(strings.TrimRight(r.Unified[k], "\n"), "\n") {
			out = append(out, setting{strings.SplitN(k, ".", 2)[0], k, line})
		}
	}
	return out, nil
}
