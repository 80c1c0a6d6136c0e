//go:build linux

package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/engine/confine"
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

func (c *Container) checkSecurity() error {
	if _, err := confine.Parse(c.HostConfig.SecurityOpt); err != nil {
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

// labels are what the host's security modules know the container by.
func (c *Container) labels(o *confine.Options) (confine.Labels, error) {
	h := &c.HostConfig
	subject := confine.Subject{ID: c.ID, Privileged: h.Privileged, Open: h.PidMode.IsHost() || h.IpcMode.IsHost()}
	for _, name := range []string{h.PidMode.Container(), h.IpcMode.Container()} {
		if name == "" {
			continue
		}
		if other, err := c.e.Lookup(name); err == nil {
			subject.Beside = other.ID
		}
	}
	return o.Labels(subject)
}

// addSecurity bounds what the container's processes may do.
func (c *Container) addSecurity(s *specs.Spec) error {
	o, err := confine.Parse(c.HostConfig.SecurityOpt)
	if err != nil {
		return err
	}
	if err := c.addLabels(s, &o); err != nil {
		return err
	}
	privileged := c.HostConfig.Privileged
	set := c.capabilities()
	held := set
	if s.Process.User.UID != 0 {
		held = nil // an ordinary user gets none, only the bound of what it can gain
	}
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: set, Effective: held, Permitted: held}
	s.Process.NoNewPrivileges = o.ForbidsGain(s.Process.User.UID, c.UserAsked && !privileged)
	if !privileged && !o.Unmask {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = slices.Clone(maskedPaths), slices.Clone(readonlyPaths)
		thermal, _ := filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle") // CVE-2018-20721's class: a side channel
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, thermal...)
	}
	switch {
	case privileged && o.Seccomp == "" || o.Seccomp == "unconfined" || !seccomp.Supported():
	case o.Seccomp != "":
		s.Linux.Seccomp, err = profile.Load([]byte(o.Seccomp), set)
	default:
		s.Linux.Seccomp, err = profile.Default(set)
	}
	return err
}

// addLabels gives processes and files their labels, and the files that are on the host theirs.
func (c *Container) addLabels(s *specs.Spec, o *confine.Options) error {
	l, err := c.labels(o)
	if err == nil {
		err = l.Load()
	}
	if err != nil {
		return err
	}
	s.Process.ApparmorProfile, s.Process.SelinuxLabel, s.Linux.MountLabel = l.Profile, l.Process, l.File
	return l.Relabel(s.Mounts, c.Mounts, c.runDir())
}

// capabilities are those of the container's first process and of further ones.
func (c *Container) capabilities() []string {
	return confine.Capabilities(c.HostConfig.CapAdd, c.HostConfig.CapDrop, c.HostConfig.Privileged)
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
