//go:build linux

package engine

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/engine/devices"
	"github.com/berth-containers/berth/engine/limits"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/namespace"
)

// spec is the one translation of what a user asked into the runtime specification. Everything that the host decides
// is looked up here: users of the image, devices, namespaces of other containers.
func (c *Container) spec() (*specs.Spec, error) {
	h := &c.HostConfig
	s := &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: filepath.Join(c.runDir(), rootFolder), Readonly: h.ReadonlyRootfs},
		Hostname:    c.Hostname,
		Domainname:  c.Domainname,
		Annotations: maps.Clone(h.Annotations),
		Linux: &specs.Linux{
			CgroupsPath: c.cgroupsPath(),
			Resources:   limits.Spec(&h.Resources),
			Sysctl:      c.sysctls(),
		},
	}
	steps := []func(*specs.Spec) error{c.addNamespaces, c.addProcess, c.addMounts, c.addDevices, c.addSecurity}
	for _, step := range steps {
		if err := step(s); err != nil {
			return nil, err
		}
	}
	names, err := devices.Resolve(c.HostConfig.DeviceRequests)
	if err == nil {
		err = devices.Inject(s, names)
	}
	if err != nil {
		return nil, err
	}
	if len(c.CgroupConf) > 0 {
		s.Linux.Resources.Unified = c.CgroupConf
	}
	s.Linux.Resources.HugepageLimits = limits.Hugepages(c.Hugepages)
	return s, nil
}

// rootFolder is the empty folder that the container's root is mounted on, in its own mount namespace only.
const rootFolder = "rootfs"

func (c *Container) cgroupsPath() string {
	parent := c.HostConfig.CgroupParent
	if parent == "" {
		parent = "/berth"
	}
	return filepath.Join("/", parent, c.ID)
}

// sysctls are the user's, over those that let ordinary users of the container do what root of it may: ping, and listen
// on every port (Docker's defaults).
func (c *Container) sysctls() map[string]string {
	out := map[string]string{}
	if mode := c.HostConfig.NetworkMode; !mode.IsHost() && !mode.IsContainer() {
		out["net.ipv4.ip_unprivileged_port_start"] = "0"
		if c.IDRange == nil { // the kernel wants ids that are mapped
			out["net.ipv4.ping_group_range"] = "0 2147483647"
		}
	}
	maps.Copy(out, c.HostConfig.Sysctls)
	return out
}

// addNamespaces decides which namespaces are the container's own, and whose it shares.
func (c *Container) addNamespaces(s *specs.Spec) error {
	h := &c.HostConfig
	modes := []struct{ kind, mode string }{
		{"mount", "private"}, {"pid", string(h.PidMode)}, {"ipc", string(h.IpcMode)}, {"uts", string(h.UTSMode)},
		{"cgroup", string(h.CgroupnsMode)}, {"network", c.networkNamespace()}, {"time", c.Timens},
	}
	for _, m := range modes {
		n := specs.LinuxNamespace{Type: specs.LinuxNamespaceType(m.kind)}
		kind, _ := namespace.ByName(m.kind)
		var err error
		if n.Path, err = c.namespacePath(kind, m.mode); err != nil {
			return err
		}
		switch {
		case n.Path != "":
		case m.kind == "time" && (m.mode == "" || m.mode == "host"):
			continue
		case m.mode == "host":
			continue
		case !kind.Supported():
			if m.mode == "" {
				continue // an older kernel: what nobody asked for by name is left out
			}
			return errs.Text(errs.Unsupported, "this kernel has no "+m.kind+" namespaces")
		case m.mode == "" || m.mode == "private" || m.mode == "shareable" || m.mode == "none" || m.mode == "default":
		default:
			return errs.Text(errs.Invalid, fmt.Sprintf("invalid %s mode: %s", m.kind, m.mode))
		}
		s.Linux.Namespaces = append(s.Linux.Namespaces, n)
	}
	if mode := string(h.UTSMode); h.UTSMode.IsHost() || strings.HasPrefix(mode, "container:") || strings.HasPrefix(mode, "ns:") { // others' names stay
		s.Hostname, s.Domainname = "", ""
	}
	if c.IDRange != nil {
		user, _ := namespace.ByName("user")
		path, err := c.namespacePath(user, string(h.UsernsMode))
		if err != nil {
			return err
		}
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
		s.Linux.UIDMappings = []specs.LinuxIDMapping{{HostID: c.IDRange.UID, Size: c.IDRange.Size}}
		s.Linux.GIDMappings = []specs.LinuxIDMapping{{HostID: c.IDRange.GID, Size: c.IDRange.Size}}
	}
	return nil
}

// namespacePath is where the namespace is that a mode names by another container or a path; "" when it names none.
func (c *Container) namespacePath(kind namespace.Kind, mode string) (string, error) {
	if path, ok := strings.CutPrefix(mode, "ns:"); ok {
		return path, nil
	}
	name, ok := strings.CutPrefix(mode, "container:")
	if !ok {
		return "", nil
	}
	other, err := c.e.Lookup(name)
	if err != nil {
		return "", err
	}
	pid, err := other.pid()
	if err != nil {
		return "", errs.Wrap(fmt.Sprintf("join %s namespace of container %s", kind.Name, name), err)
	}
	return fmt.Sprintf("/proc/%d/ns/%s", pid, kind.Proc), nil
}

// networkNamespace says where the container's network is: in a namespace of its own that is born with it, or in one
// that was prepared with links to a bridge.
func (c *Container) networkNamespace() string {
	mode := c.HostConfig.NetworkMode
	switch {
	case mode.IsHost() || mode.IsContainer() || strings.HasPrefix(string(mode), "ns:"):
		return string(mode)
	case c.hasBridge():
		return "ns:" + c.e.netnsPath(c.ID)
	}
	return "private"
}

// hasBridge reports whether the container is attached to networks.
func (c *Container) hasBridge() bool {
	mode := c.HostConfig.NetworkMode
	return !mode.IsNone() && !mode.IsHost() && !mode.IsContainer() && !strings.HasPrefix(string(mode), "ns:") && !c.NetworkDisabled
}

// pid is the container's first process, while it runs.
func (c *Container) pid() (int, error) {
	status, _, _ := c.now()
	if status == nil || status.Pid == 0 {
		return 0, errs.Text(errs.Conflict, fmt.Sprintf("container %s is not running", c.ID))
	}
	return status.Pid, nil
}
