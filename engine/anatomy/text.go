//go:build linux

package anatomy

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
)

// drawing writes lines that fit.
type drawing struct {
	out   io.Writer
	width int
}

func (d *drawing) line(format string, args ...any) {
	text := []rune(fmt.Sprintf(format, args...))
	if d.width > 1 && len(text) > d.width {
		text = append(text[:d.width-1], '…')
	}
	fmt.Fprintln(d.out, strings.TrimRight(string(text), " "))
}

// Write draws the map in lines of at most width characters; 0 cuts nothing.
func (m *Map) Write(out io.Writer, width int) {
	d := &drawing{out, width}
	d.line("%s  %s  %s", m.Name, m.ID[:12], m.Image)
	d.namespaces(m)
	d.processes(m)
	d.cgroup(m)
	d.root(m)
	d.security(m)
	d.network(m)
}

func (d *drawing) namespaces(m *Map) {
	d.line("\nNamespaces of process 1 (pid %d on the host; /proc/%d/ns)", m.Pid, m.Pid)
	for _, n := range m.Namespaces {
		shared := "its own"
		if len(n.Shared) > 0 {
			shared = "shared with " + strings.Join(n.Shared, ", ")
		}
		d.line("  %-7s %d  %s", n.Kind, n.Inode, shared)
	}
}

func (d *drawing) processes(m *Map) {
	d.line("\nProcesses")
	d.line("  %7s %7s %5s %8s  %s", "HOST", "INSIDE", "UID", "MEMORY", "COMMAND")
	for _, p := range m.Processes {
		threads := ""
		if p.Threads > 1 {
			threads = fmt.Sprintf("  (%d threads)", p.Threads)
		}
		branch := ""
		if p.Depth > 0 {
			branch = strings.Repeat("  ", p.Depth-1) + "└ "
		}
		d.line("  %7d %7d %5d %8s  %s%s%s", p.Pid, p.Inside, p.UID, units.BytesSize(float64(p.Memory)), branch, p.Command, threads)
	}
}

func (d *drawing) cgroup(m *Map) {
	d.line("\nControl group (version %d) %s", m.Cgroup.Version, m.Cgroup.Path)
	for _, f := range m.Cgroup.Files {
		d.line("  %-28s %-20s %s", filepath.Base(f.File), f.Value, f.What)
	}
}

func (d *drawing) root(m *Map) {
	d.line("\nRoot file system (overlay, top first)")
	d.line("  %9s  %s  what the container writes", units.BytesSize(float64(m.Root.Write.Size)), m.Root.Write.Path)
	for _, l := range m.Root.Layers {
		d.line("  %9s  %s", units.BytesSize(float64(l.Size)), l.Path)
	}
	d.line("\nMounts (/proc/%d/mountinfo)", m.Pid)
	for _, mount := range m.Mounts {
		d.line("  %-28s %-8s %s  %s", mount.Target, mount.Type, mount.Options, mount.Source)
	}
}

func (d *drawing) security(m *Map) {
	s := &m.Security
	d.line("\nWhat process 1 may do")
	for _, row := range [][2]string{
		{"uid (real, eff, saved, fs)", s.UID}, {"gid", s.GID}, {"groups", s.Groups}, {"id map, inside → outside", s.IDMap},
		{"capabilities, effective", names(s.Capabilities.Effective)}, {"  bounding", names(s.Capabilities.Bounding)},
		{"  inheritable, ambient", names(append(append([]string{}, s.Capabilities.Inheritable...), s.Capabilities.Ambient...))},
		{"no_new_privs", fmt.Sprint(s.NoNewPrivs)}, {"seccomp", s.Seccomp}, {"label", s.LSM},
	} {
		if row[1] != "" {
			d.line("  %-26s %s", row[0], row[1])
		}
	}
}

// names shortens names of capabilities.
func names(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.ReplaceAll(strings.Join(list, " "), "CAP_", "")
}

func (d *drawing) network(m *Map) {
	d.line("\nNetwork (%s)", m.Network.Mode)
	for _, e := range m.Network.Endpoints {
		d.line("  %s %s %s ← %s ← bridge %s (network %s)", e.Link, strings.Join(e.Addresses, " "), e.MAC, e.HostLink, e.Bridge, e.Network)
	}
	for _, s := range m.Network.Listening {
		d.line("  %-5s %-22s %s", s.Protocol, s.Address, s.Process)
	}
	for _, p := range m.Network.Paths {
		d.line("  %s", p)
	}
}
