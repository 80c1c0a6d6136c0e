//go:build linux

package cgroup

import (
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// setDevices makes the rules in order say which devices may be opened (r, w) and made (m). The first rule of a
// container is "deny all"; each later one changes what came before it.
func (g *Group) setDevices(rules []specs.LinuxDeviceCgroup) error {
	if len(rules) == 0 {
		return nil
	}
	for _, r := range rules {
		if err := checkDevice(r); err != nil {
			return err
		}
	}
	if g.V2() {
		return trace.Step("bpf", "a program decides which devices may be opened", "attach", "BPF_CGROUP_DEVICE", "rules", len(rules)).
			Do(func() error { return g.attachDeviceFilter(deviceProgram(rules)) })
	}
	for _, r := range rules {
		file := "devices.deny"
		if r.Allow {
			file = "devices.allow"
		}
		if err := g.write(setting{"devices", file, deviceText(r)}, "which devices may be opened"); err != nil {
			return err
		}
	}
	return nil
}

func checkDevice(r specs.LinuxDeviceCgroup) error {
	bad := func(why string) error { return errs.New(errs.Invalid, "read device rule", fmt.Errorf("%s", why)) }
	switch r.Type {
	case "", "a", "b", "c", "u", "p":
	default:
		return bad(fmt.Sprintf("%q is no type of device (a, b, c)", r.Type))
	}
	for _, c := range r.Access {
		if c != 'r' && c != 'w' && c != 'm' {
			return bad(fmt.Sprintf("%q is no access (r, w, m)", r.Access))
		}
	}
	return nil
}

// deviceText is a rule as version 1 reads it: "c 1:3 rwm", or "a" for everything.
func deviceText(r specs.LinuxDeviceCgroup) string {
	access := r.Access
	if access == "" {
		access = "rwm"
	}
	kind := deviceType(r.Type)
	if kind == "a" && r.Major == nil && r.Minor == nil && access == "rwm" {
		return "a"
	}
	return kind + " " + wild(r.Major) + ":" + wild(r.Minor) + " " + access
}

func deviceType(t string) string {
	switch t {
	case "":
		return "a"
	case "u": // an unbuffered device is a character device (mknod(1))
		return "c"
	}
	return t
}

func wild(n *int64) string {
	if n == nil || *n < 0 {
		return "*"
	}
	return strconv.FormatInt(*n, 10)
}
