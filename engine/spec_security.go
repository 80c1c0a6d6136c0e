//go:build linux

package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/engine/devices"
	"github.com/berth-containers/berth/engine/limits"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/caps"
	"github.com/berth-containers/berth/linux/seccomp"
	"github.com/berth-containers/berth/linux/seccomp/profile"
)

// maskedPaths tell about the host, or reach it; readonlyPaths can be read and not written. Docker's lists, and what a
// container has no use for.
var (
	maskedPaths = []string{"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap", "/sys/fs/selinux", "/sys/dev/block",
		"/sys/kernel/debug", "/sys/kernel/tracing"}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// securityOptions are what --security-opt says.
type securityOptions struct {
	noNewPrivileges *bool  // nil: nothing is said
	unmask          bool   // systempaths=unconfined
	seccomp         string // "": the default profile; unconfined; or a profile in JSON
	apparmor        string
	label           []string
}

func (c *Container) checkSecurity() error {
	if _, err := c.securityOptions(); err != nil {
		return err
	}
	for _, list := range [][]string{c.HostConfig.CapAdd, c.HostConfig.CapDrop} {
		for _, name := range list {
			if strings.EqualFold(name, "ALL") {
				continue
			}
			if err := caps.Check([]string{name}); err != nil {
				return err
			}
		}
	}
	for _, d := range c.HostConfig.Devices {
		if _, err := os.Stat(d.PathOnHost); err != nil {
			return errs.Text(errs.Invalid, fmt.Sprintf("error gathering device information while adding custom device %q: no such file or directory", d.PathOnHost))
		}
		if strings.Trim(d.CgroupPermissions, "rwm") != "" {
			return errs.Text(errs.Invalid, "invalid device mode: "+d.CgroupPermissions)
		}
	}
	for _, u := range c.HostConfig.Ulimits {
		if u.Hard != -1 && u.Soft > u.Hard {
			return errs.Text(errs.Invalid, fmt.Sprintf("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard))
		}
	}
	return nil
}

func (c *Container) securityOptions() (o securityOptions, err error) {
	for _, opt := range c.HostConfig.SecurityOpt {
		key, value, hasValue := strings.Cut(opt, "=")
		if !hasValue {
			key, value, hasValue = strings.Cut(opt, ":")
		}
		switch {
		case key == "no-new-privileges" && (!hasValue || value == "true"):
			o.noNewPrivileges = new(true)
		case key == "no-new-privileges" && value == "false":
			o.noNewPrivileges = new(false)
		case key == "seccomp" && value != "":
			if o.seccomp, err = readProfile(value); err != nil {
				return o, err
			}
		case key == "systempaths" && value == "unconfined":
			o.unmask = true
		case key == "apparmor" && value != "":
			o.apparmor = value
		case key == "label" && value != "":
			o.label = append(o.label, value)
		default:
			return o, errs.Text(errs.Invalid, fmt.Sprintf("invalid --security-opt: %q", opt))
		}
	}
	return o, nil
}

// forbidsGain reports whether a process can gain no privileges by executing set-uid programs and files with capabilities
// (PR_SET_NO_NEW_PRIVS, prctl(2)). Who asks for an ordinary user with --user gets one that stays one; an image that has a
// user of its own may have sudo, and --security-opt no-new-privileges=false lets everybody have it.
func (o *securityOptions) forbidsGain(uid uint32, asked bool) bool {
	if o.noNewPrivileges != nil {
		return *o.noNewPrivileges
	}
	return asked && uid != 0
}

// readProfile takes a profile as JSON, which a client has read already, or by the name of a file.
func readProfile(value string) (string, error) {
	if value == "unconfined" || strings.HasPrefix(strings.TrimSpace(value), "{") {
		return value, nil
	}
	if value == "builtin" {
		return "", nil
	}
	b, err := os.ReadFile(value)
	if err != nil {
		return "", errs.New(errs.Invalid, "read seccomp profile", err)
	}
	return string(b), nil
}

// addSecurity bounds what the container's processes may do.
func (c *Container) addSecurity(s *specs.Spec) error {
	o, err := c.securityOptions()
	if err != nil {
		return err
	}
	privileged := c.HostConfig.Privileged
	set := c.capabilities(o)
	held := set
	if s.Process.User.UID != 0 {
		held = nil // an ordinary user gets none, only the bound of what it can gain
	}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: set, Effective: held, Permitted: held}
	s.Process.NoNewPrivileges = o.forbidsGain(s.Process.User.UID, c.UserAsked && !privileged)
	if !privileged && !o.unmask {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
		thermal, _ := filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle") // CVE-2018-20721's class: a side channel
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, thermal...)
	}
	switch {
	case privileged && o.seccomp == "" || o.seccomp == "unconfined" || !seccomp.Supported():
	case o.seccomp != "":
		s.Linux.Seccomp, err = profile.Load([]byte(o.seccomp), set)
	default:
		s.Linux.Seccomp, err = profile.Default(set)
	}
	return err
}

// capabilities are the default ones, with and without what the user says; a container with all of the host's rights
// has all.
func (c *Container) capabilities(securityOptions) []string {
	if c.HostConfig.Privileged {
		return caps.All()
	}
	return c.tweakCapabilities(caps.Default())
}

func (c *Container) tweakCapabilities(set []string) []string {
	name := func(s string) string { return "CAP_" + strings.TrimPrefix(strings.ToUpper(s), "CAP_") }
	has := func(list []string, what string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return name(s) == what })
	}
	if has(c.HostConfig.CapDrop, "CAP_ALL") {
		set = nil
	}
	if has(c.HostConfig.CapAdd, "CAP_ALL") {
		set = caps.All()
	}
	var out []string
	for _, have := range set {
		if !has(c.HostConfig.CapDrop, have) {
			out = append(out, have)
		}
	}
	for _, add := range c.HostConfig.CapAdd {
		if n := name(add); n != "CAP_ALL" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// addDevices makes device nodes and says which may be opened.
func (c *Container) addDevices(s *specs.Spec) error {
	allow := func(kind string, major, minor int64, access string) {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			d.Major = &major
		}
		if minor >= 0 {
			d.Minor = &minor
		}
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, d)
	}
	if c.HostConfig.Privileged {
		allow("a", -1, -1, "rwm")
		return devices.All(s)
	}
	s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	allow("c", 5, 1, "rwm") // console; those that every container has are the runtime's to allow
	for _, d := range c.HostConfig.Devices {
		if err := devices.Add(s, d); err != nil {
			return err
		}
	}
	for _, rule := range c.HostConfig.DeviceCgroupRules {
		d, err := limits.ParseDeviceRule(rule)
		if err != nil {
			return err
		}
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, d)
	}
	return nil
}
