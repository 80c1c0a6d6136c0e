//go:build linux

package confine

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	docker "github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/lsm"
	"github.com/berth-containers/berth/linux/mount"
)

// Subject is what of a container its labels depend on.
type Subject struct {
	ID         string
	Beside     string // id of the container whose processes or shared memory it sees; "": none
	Privileged bool
	Open       bool // it sees the host's processes or shared memory, which other contexts may not touch
}

// Labels are what the host's security modules know a container by; "" is nothing.
type Labels struct {
	Profile string // AppArmor's
	Process string // SELinux's contexts
	File    string
}

// Labels decides. It changes nothing.
func (o *Options) Labels(s Subject) (Labels, error) {
	l := Labels{Profile: o.AppArmor}
	switch {
	case o.AppArmor != "":
	case s.Privileged && lsm.AppArmor():
		l.Profile = lsm.Unconfined
	case !s.Privileged && profileAvailable():
		l.Profile = DefaultProfile
	}
	if !lsm.SELinux() {
		return l, nil
	}
	var err error
	l.Process, l.File, err = o.contexts(s)
	return l, err
}

// Modules are the host's, in the words of Docker's info.
func Modules() (out []string) {
	if lsm.AppArmor() {
		out = append(out, "name=apparmor")
	}
	if lsm.SELinux() {
		out = append(out, "name=selinux")
	}
	return out
}

// contexts are the policy's for containers, with what label= says of them. A container that is as free as the host has
// none of its own; its files still are such that no confined one can touch them.
func (o *Options) contexts(s Subject) (process, file string, err error) {
	process, file = policyContexts(selinuxFolder())
	if process == "" || file == "" {
		return "", "", nil // a policy that knows no containers
	}
	seed := s.ID
	if s.Beside != "" {
		seed = s.Beside
	}
	p, f := splitContext(process), splitContext(file)
	p.level, f.level = categories(seed), categories(seed)
	disabled := s.Privileged || s.Open
	for _, option := range o.Label {
		part, value, _ := strings.Cut(option, ":")
		switch part {
		case "disable":
			disabled = true
		case "user":
			p.user, f.user = value, value
		case "role":
			p.role = value
		case "type":
			p.kind = value
		case "level":
			p.level, f.level = value, value
		case "filetype":
			f.kind = value
		}
	}
	if disabled {
		return "", f.String(), lsm.CheckLabel(f.String())
	}
	if err := lsm.CheckLabel(p.String()); err != nil {
		return "", "", err
	}
	return p.String(), f.String(), lsm.CheckLabel(f.String())
}

// context is one of SELinux's: user:role:type:level. Levels have colons.
type context struct{ user, role, kind, level string }

func splitContext(text string) (c context) {
	parts := append(strings.SplitN(text, ":", 4), "", "", "", "")
	return context{parts[0], parts[1], parts[2], parts[3]}
}

func (c context) String() string { return c.user + ":" + c.role + ":" + c.kind + ":" + c.level }

// categories are two of the 1024 that a policy has, by a container's random id: one pair in half a million.
func categories(id string) string {
	n, err := strconv.ParseUint(id[:min(len(id), 12)], 16, 64)
	if err != nil {
		return "s0"
	}
	a, b := n%1024, n/1024%1023
	if b >= a {
		b++ // any but a
	}
	return fmt.Sprintf("s0:c%d,c%d", min(a, b), max(a, b))
}

// selinuxFolder is where the policy's configuration is (selinux_config(5)).
func selinuxFolder() string {
	b, _ := os.ReadFile("/etc/selinux/config")
	for _, line := range strings.Split(string(b), "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "SELINUXTYPE="); ok {
			return filepath.Join("/etc/selinux", filepath.Base(name))
		}
	}
	return "/etc/selinux/targeted"
}

// policyContexts are those for containers: of lines `process = "context"` the last, as selinux_lxc_contexts_path(3) tells.
func policyContexts(folder string) (process, file string) {
	b, _ := os.ReadFile(filepath.Join(folder, "contexts/lxc_contexts"))
	for _, line := range strings.Split(string(b), "\n") {
		key, value, _ := strings.Cut(line, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.TrimSpace(key) {
		case "process":
			process = value
		case "file":
			file = value
		}
	}
	return process, file
}

// Relabel gives files the container's context: those of ours in a folder, volumes, and what the user says by z, for all
// containers, or Z, for this one alone.
func (l *Labels) Relabel(mounts []specs.Mount, points []mountpoint.Point, ours string) error {
	if l.File == "" {
		return nil
	}
	shared := splitContext(l.File)
	shared.level = "s0"
	for _, m := range mounts {
		label := ""
		if strings.HasPrefix(m.Source, ours+"/") {
			label = l.File
		}
		for i := range points {
			if p := &points[i]; p.Destination == m.Destination {
				switch {
				case p.Private():
					label = l.File
				case p.Shared() || p.Type == docker.TypeVolume:
					label = shared.String()
				}
			}
		}
		if label == "" || m.Type != "bind" {
			continue
		}
		if err := relabel(m.Source, label); err != nil {
			return err
		}
	}
	return nil
}

// relabel labels a file or folder with all that is below, unless it has the label itself.
func relabel(source, label string) error {
	op := "label " + source + " for SELinux"
	if source = filepath.Clean(source); strings.Count(source, "/") < 2 || source == os.Getenv("HOME") {
		return errs.New(errs.Invalid, op, fmt.Errorf("it belongs to the whole host, whose programs could not read it any more")).
			WithHint("mount a folder below it, or without z and Z")
	}
	buf := make([]byte, 256)
	if n, err := unix.Getxattr(source, "security.selinux", buf); err == nil && strings.TrimRight(string(buf[:n]), "\x00") == label {
		return nil
	}
	f, err := os.OpenFile(source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap(op, err)
	}
	defer f.Close()
	err = trace.Step("setxattr security.selinux", "SELinux lets the container's processes use the files", "path", source, "label", label).
		Do(func() error { return mount.LabelAll(f, label) })
	return errs.Wrap(op, err)
}
