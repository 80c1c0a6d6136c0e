//go:build linux

// Package anatomy draws a live map of one running container from what the kernel shows of it: its namespaces and who
// shares them, its processes, its control group with limits, use and pressure, the layers of its root, its mounts, what
// its first process may do, and the way of a packet from a port of the host to a socket. Nothing is remembered: it is
// what is there now.
package anatomy

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/cgroup"
)

// Map is the whole. Sizes are bytes.
type Map struct {
	ID, Name, Image string
	Pid             int // of process 1, on the host
	Namespaces      []Namespace
	Processes       []Process
	Cgroup          Cgroup
	Root            Root
	Mounts          []Mount
	Security        Security
	Network         Network
}

// Namespace is one of process 1's.
type Namespace struct {
	Kind   string // as in /proc/PID/ns
	Inode  uint64
	Shared []string `json:",omitempty"` // "the host", or names of other containers
}

// Root are the layers that are seen as /.
type Root struct {
	Write  Layer
	Layers []Layer // the image's, top first
}

// Layer is a folder of the host.
type Layer struct {
	Path string
	Size int64
}

// Mount is a line of mountinfo (proc(5)).
type Mount struct {
	Target, Type, Source string
	Options              string
}

// Draw looks at a running container.
func Draw(e *engine.Engine, c *engine.Container) (*Map, error) {
	in := c.Inspect(false)
	if in.State.Pid == 0 {
		return nil, errs.Text(errs.Conflict, "container "+c.ID+" is not running")
	}
	group, err := c.Group()
	if err != nil {
		return nil, err
	}
	pids, err := group.Pids()
	if err != nil {
		return nil, err
	}
	m := &Map{ID: c.ID, Name: c.Name, Image: in.Config.Image, Pid: in.State.Pid}
	if m.Namespaces, err = namespaces(e, m.Pid); err != nil {
		return nil, err
	}
	m.Processes = processes(m.Pid, pids)
	m.Cgroup = readCgroup(group)
	m.Root.Write = Layer{in.Berth.WriteLayer, layer.Size(in.Berth.WriteLayer)}
	for _, dir := range in.Berth.Layers {
		m.Root.Layers = append(m.Root.Layers, Layer{dir, layer.Size(dir)})
	}
	m.Mounts = mounts(m.Pid)
	if m.Security, err = security(m.Pid); err != nil {
		return nil, err
	}
	m.Network, err = network(c, m.Pid, pids)
	return m, err
}

// namespaces compares process 1's with ours and with those of other running containers.
func namespaces(e *engine.Engine, pid int) ([]Namespace, error) {
	list, err := e.List(engine.ListOptions{})
	if err != nil {
		return nil, err
	}
	others := map[string]int{}
	for _, s := range list {
		if c, err := e.Lookup(s.ID); err == nil {
			if p := c.Inspect(false).State.Pid; p > 0 && p != pid {
				others[c.Name] = p
			}
		}
	}
	var out []Namespace
	for _, kind := range []string{"mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"} {
		inode := namespaceInode(strconv.Itoa(pid), kind)
		if inode == 0 {
			continue // a kernel without it
		}
		n := Namespace{Kind: kind, Inode: inode}
		if inode == namespaceInode("self", kind) {
			n.Shared = append(n.Shared, "the host")
		} else {
			for name, p := range others {
				if namespaceInode(strconv.Itoa(p), kind) == inode {
					n.Shared = append(n.Shared, name)
				}
			}
		}
		out = append(out, n)
	}
	return out, nil
}

// namespaceInode is the number in the link's text "KIND:[NUMBER]" (namespaces(7)); 0 when there is none.
func namespaceInode(pid, kind string) uint64 {
	text, err := os.Readlink("/proc/" + pid + "/ns/" + kind)
	if err != nil {
		return 0
	}
	_, number, _ := strings.Cut(text, ":[")
	n, _ := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
	return n
}

// mounts reads what process 1 has mounted, in its order.
func mounts(pid int) []Mount {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return nil
	}
	var out []Mount
	for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		before, after, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 6 || len(g) < 2 {
			continue
		}
		m := Mount{Target: unescape(f[4]), Type: g[0], Source: unescape(g[1]), Options: f[5]}
		if f[3] != "/" && (strings.HasPrefix(m.Source, "/") || m.Type == "tmpfs") {
			m.Source += "[" + unescape(f[3]) + "]" // a part of it: a bind mount
		}
		out = append(out, m)
	}
	return out
}

// unescape reads the octal numbers by which mountinfo writes blanks.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Cgroup is where limits are kept, and how far the container is from them.
type Cgroup struct {
	Version int
	Path    string
	Files   []CgroupFile
}

// CgroupFile is one file of the group as the kernel shows it.
type CgroupFile struct {
	File  string // its path
	Value string // its first line
	What  string
}

// shownFiles are those that matter, for each version: the controller of version 1, the file, what it is.
var shownFiles = []struct{ controller, v1, v2, what string }{
	{"memory", "memory.usage_in_bytes", "memory.current", "memory in use, bytes"},
	{"memory", "memory.limit_in_bytes", "memory.max", "its limit"},
	{"memory", "memory.max_usage_in_bytes", "memory.peak", "the most so far"},
	{"memory", "memory.soft_limit_in_bytes", "memory.low", "what is kept for it (--memory-reservation)"},
	{"memory", "memory.memsw.limit_in_bytes", "memory.swap.max", "limit with swap (v1), of swap (v2)"},
	{"memory", "", "memory.pressure", "time lost waiting for memory"},
	{"cpu", "cpu.shares", "cpu.weight", "share of CPU time under contention"},
	{"cpu", "cpu.cfs_quota_us", "cpu.max", "CPU time in each period, microseconds"},
	{"cpu", "cpu.cfs_period_us", "", "the period"},
	{"cpuacct", "cpuacct.usage", "", "CPU time used, nanoseconds"},
	{"cpu", "", "cpu.pressure", "time lost waiting for a CPU"},
	{"cpuset", "cpuset.cpus", "cpuset.cpus.effective", "CPUs it may use"},
	{"cpuset", "cpuset.mems", "cpuset.mems.effective", "memory nodes it may use"},
	{"pids", "pids.current", "pids.current", "processes and threads"},
	{"pids", "pids.max", "pids.max", "their limit"},
	{"blkio", "blkio.weight", "io.weight", "share of disk time"},
	{"blkio", "", "io.max", "limits of disks"},
	{"blkio", "", "io.pressure", "time lost waiting for disks"},
	{"freezer", "freezer.state", "cgroup.freeze", "what berth pause has made of it"},
}

func readCgroup(g *cgroup.Group) Cgroup {
	state := g.State()
	out := Cgroup{Version: state.Version, Path: state.Path}
	for _, f := range shownFiles {
		dir, file := state.Dirs[f.controller], f.v1
		if state.Version == 2 {
			dir, file = state.Dirs[""], f.v2
		}
		if dir == "" || file == "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue // a kernel, or a parent, without it
		}
		value, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
		if value == "9223372036854771712" { // version 1's "no limit": the largest number of whole pages
			value = "max"
		}
		out.Files = append(out.Files, CgroupFile{File: filepath.Join(dir, file), Value: value, What: f.what})
	}
	return out
}
