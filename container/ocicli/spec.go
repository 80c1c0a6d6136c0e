//go:build linux

package ocicli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/version"
	"github.com/berth-containers/berth/linux/caps"
	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/linux/seccomp"
)

// exampleSpec is a specification to begin with, as runc's.
func exampleSpec(rootless bool) *specs.Spec {
	few := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	s := &specs.Spec{
		Version: specs.Version, Hostname: "berth", Root: &specs.Root{Path: "rootfs", Readonly: true},
		Process: &specs.Process{
			Terminal: true, Args: []string{"sh"}, Cwd: "/", NoNewPrivileges: true,
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"},
			Capabilities: &specs.LinuxCapabilities{Bounding: few, Effective: few, Permitted: few},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &specs.Linux{
			MaskedPaths:   []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Resources:     &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
			Namespaces:    []specs.LinuxNamespace{{Type: "pid"}, {Type: "network"}, {Type: "ipc"}, {Type: "uts"}, {Type: "mount"}},
		},
	}
	if mode, err := cgroup.Detect(); err == nil && mode == cgroup.V2 { // as runc: with version 1 its groups are bound
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "cgroup"})
	}
	if rootless {
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: uint32(os.Geteuid()), Size: 1}}
		s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: uint32(os.Getegid()), Size: 1}}
		s.Linux.Resources = nil
	}
	return s
}

func (p *program) spec(c *call) error {
	bundle := c.String("bundle", ".", "folder of the bundle")
	c.StringVar(bundle, "b", ".", "folder of the bundle")
	rootless := c.Bool("rootless", false, "for a container of an ordinary user")
	if err := p.parse(c, 0, 0); err != nil {
		return err
	}
	file := filepath.Join(*bundle, "config.json")
	b, err := json.MarshalIndent(exampleSpec(*rootless), "", "\t")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return errs.New(errs.Conflict, "write specification", fmt.Errorf("%w; it is not overwritten", err))
	}
	defer f.Close()
	_, err = f.Write(append(b, '\n'))
	return err
}

// features says what the runtime can do (runtime-spec, features.md).
func (p *program) features(c *call) error {
	if err := p.parse(c, 0, 0); err != nil {
		return err
	}
	yes, no := true, false
	modes, flags := container.MemoryPolicies()
	var kinds []string
	for _, k := range namespace.Kinds {
		if k.Supported() {
			kinds = append(kinds, k.Name)
		}
	}
	return p.printJSON(&features.Features{
		OCIVersionMin: "1.0.0", OCIVersionMax: specs.Version,
		Hooks:        []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"},
		MountOptions: mount.Words(),
		Linux: &features.Linux{
			Namespaces: kinds, Capabilities: caps.Known(),
			Cgroup:          &features.Cgroup{V1: &yes, V2: &yes, Systemd: &yes, SystemdUser: &yes, Rdma: &yes},
			Seccomp:         &features.Seccomp{Enabled: &yes, Actions: seccomp.Actions(), Operators: seccomp.Operators(), Archs: seccomp.Arches(), KnownFlags: seccomp.Flags(), SupportedFlags: seccomp.Flags()},
			Apparmor:        &features.Apparmor{Enabled: &yes}, // what the runtime can do, not this host
			Selinux:         &features.Selinux{Enabled: &yes},
			IntelRdt:        &features.IntelRdt{Enabled: &no},
			MemoryPolicy:    &features.MemoryPolicy{Modes: modes, Flags: flags},
			NetDevices:      &features.NetDevices{Enabled: &yes},
			MountExtensions: &features.MountExtensions{IDMap: &features.IDMap{Enabled: &yes}},
		},
		Annotations: map[string]string{"io.github.berth-containers.berth-runtime.version": version.String()},
	})
}
