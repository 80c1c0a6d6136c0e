//go:build linux

package container

import (
	"cmp"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/caps"
	"github.com/berth-containers/berth/linux/lsm"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/linux/netdev"
	"github.com/berth-containers/berth/linux/seccomp"
	"github.com/berth-containers/berth/linux/spawn"
)

func invalid(format string, args ...any) error {
	return errs.New(errs.Invalid, "read specification", fmt.Errorf(format, args...))
}

func unsupported(format string, args ...any) error {
	return errs.New(errs.Unsupported, "read specification", fmt.Errorf(format, args...))
}

// NewPlan reduces a specification (runtime-spec 1.3, config.md and config-linux.md). Everything is checked here, before
// anything is made; relative paths are taken from the bundle.
func NewPlan(spec *specs.Spec, bundle string) (*Plan, error) {
	if !strings.HasPrefix(spec.Version, "1.") {
		return nil, invalid("version %q is not supported (1.x is)", spec.Version)
	}
	if spec.Root == nil || spec.Root.Path == "" {
		return nil, invalid("root.path is missing")
	}
	linux := spec.Linux
	if linux == nil {
		linux = &specs.Linux{}
	}
	p := &Plan{
		Root:     Root{Path: spec.Root.Path, Readonly: spec.Root.Readonly, Propagation: linux.RootfsPropagation},
		Hostname: spec.Hostname, Domainname: spec.Domainname, Hooks: spec.Hooks, Annotations: spec.Annotations,
		Masked: once(linux.MaskedPaths), Readonly: once(linux.ReadonlyPaths), Sysctl: linux.Sysctl,
		CgroupsPath: linux.CgroupsPath, Resources: linux.Resources, MountLabel: linux.MountLabel,
	}
	if !filepath.IsAbs(p.Root.Path) {
		p.Root.Path = filepath.Join(bundle, p.Root.Path)
	}
	if linux.IntelRdt != nil {
		return nil, unsupported("intelRdt: this runtime has no resctrl groups")
	}
	for _, err := range []error{p.namespaces(linux), p.mounts(spec.Mounts, bundle), p.paths(), p.devices(linux), p.sysctls(), lsm.CheckLabel(p.MountLabel), p.filter(linux.Seccomp), p.policies(linux), p.hooks(), p.netDevices(linux.NetDevices)} {
		if err != nil {
			return nil, err
		}
	}
	if spec.Process != nil {
		var err error
		if p.Process, err = NewProcess(spec.Process); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Plan) namespaces(linux *specs.Linux) error {
	for _, n := range linux.Namespaces {
		k, ok := namespace.ByName(string(n.Type))
		switch {
		case !ok:
			return invalid("unknown namespace type %q", n.Type)
		case p.has(k.Name):
			return invalid("namespace %s is there twice", k.Name)
		case n.Path != "" && !filepath.IsAbs(n.Path):
			return invalid("path %q of namespace %s is not absolute", n.Path, k.Name)
		case n.Path == "" && !k.Supported():
			return unsupported("this kernel has no %s namespaces", k.Name)
		}
		p.Namespaces = append(p.Namespaces, Namespace{k.Name, n.Path})
	}
	if !p.has("mount") {
		return invalid("a container without a mount namespace would change the host's mounts")
	}
	if (p.Hostname != "" || p.Domainname != "") && !p.has("uts") {
		return invalid("hostname and domainname need a uts namespace, or the host would be renamed")
	}
	p.UIDMaps, p.GIDMaps = idMaps(linux.UIDMappings), idMaps(linux.GIDMappings)
	if err := p.userNamespace(); err != nil {
		return err
	}
	return p.timeOffsets(linux.TimeOffsets)
}

func (p *Plan) userNamespace() error {
	switch {
	case p.fresh("user") && (p.given("time") != "" || p.given("cgroup") != ""):
		return unsupported("a given time or cgroup namespace cannot be entered from a new user namespace")
	case p.fresh("user"):
		if err := namespace.CheckMaps("user", p.UIDMaps); err != nil {
			return err
		}
		return namespace.CheckMaps("group", p.GIDMaps)
	case p.has("user"):
		return p.givenUser()
	case len(p.UIDMaps)+len(p.GIDMaps) > 0:
		return invalid("id mappings need a user namespace")
	}
	return nil
}

// givenUser takes the id maps of the user namespace that the container is to be in. The specification may tell them, too,
// and then has to tell the same (config-linux.md, "User namespace mappings").
func (p *Plan) givenUser() error {
	kind, _ := namespace.ByName("user")
	f, err := namespace.OpenPath(p.given("user"), kind)
	if err != nil {
		return err
	}
	defer f.Close()
	ids, err := spawn.ReadIDs(f)
	if err != nil {
		return err
	}
	if !told(p.UIDMaps, ids.Users) || !told(p.GIDMaps, ids.Groups) {
		return invalid("the user namespace %s has other id mappings: users %v, groups %v", p.given("user"), ids.Users, ids.Groups)
	}
	if _, ok := namespace.ToHost(ids.Users, 0); !ok {
		return invalid("the user namespace %s maps no root, who makes a container", p.given("user"))
	}
	if _, ok := namespace.ToHost(ids.Groups, 0); !ok {
		return invalid("the user namespace %s does not map group 0, which makes a container", p.given("user"))
	}
	if !ids.SetGroups {
		return errs.New(errs.Permission, "enter user namespace "+p.given("user"), fmt.Errorf("setgroups is denied in it, so the host's groups would stay with the container: %w", unix.EPERM)).
			WithHint("it was made by an ordinary user without newgidmap (user_namespaces(7), /proc/PID/setgroups)")
	}
	p.UIDMaps, p.GIDMaps = ids.Users, ids.Groups
	return nil
}

// told reports whether the specification tells a namespace's ranges, which the kernel may order, or none. Podman tells one id,
// 0 as 0, when it has nothing to tell, because older runtimes wanted something.
func told(maps, have []namespace.IDMap) bool {
	if len(maps) == 0 || len(maps) == 1 && maps[0] == (namespace.IDMap{Size: 1}) {
		return true
	}
	for _, m := range maps {
		if !slices.Contains(have, m) {
			return false
		}
	}
	return len(maps) == len(have)
}

func (p *Plan) timeOffsets(offsets map[string]specs.LinuxTimeOffset) error {
	if len(offsets) == 0 {
		return nil
	}
	if !p.fresh("time") {
		return invalid("timeOffsets need a new time namespace")
	}
	for _, clock := range sortedKeys(offsets) {
		if clock != "monotonic" && clock != "boottime" {
			return invalid("clock %q has no offset (monotonic and boottime have)", clock)
		}
		p.TimeOffsets += fmt.Sprintf("%s %d %d\n", clock, offsets[clock].Secs, offsets[clock].Nanosecs)
	}
	return nil
}

func idMaps(in []specs.LinuxIDMapping) []namespace.IDMap {
	var out []namespace.IDMap
	for _, m := range in {
		out = append(out, namespace.IDMap{Container: m.ContainerID, Host: m.HostID, Size: m.Size})
	}
	return out
}

func (p *Plan) mounts(mounts []specs.Mount, bundle string) error {
	for _, m := range mounts {
		if m.Destination == "" || strings.ContainsRune(m.Destination, 0) {
			return invalid("a mount without destination")
		}
		// Older specifications have relative destinations; they are meant from the root.
		out := Mount{Destination: path.Clean("/" + m.Destination), Type: m.Type, Source: m.Source, Options: m.Options}
		o, err := mount.ParseOptions(m.Options)
		if err != nil {
			return err
		}
		if o.Bind || m.Type == "bind" || m.Type == "none" {
			out.Type = "bind"
			if m.Source == "" {
				return invalid("the bind mount on %s has no source", m.Destination)
			}
			if !filepath.IsAbs(m.Source) { // config.md, "Mounts"
				out.Source = filepath.Join(bundle, m.Source)
			}
		}
		// Some callers name it as the host sees it.
		if in, ok := strings.CutPrefix(out.Destination, p.Root.Path+"/"); ok {
			out.Destination = "/" + in
		}
		if out.Destination == "/" {
			return invalid("a mount on / would cover the root file system")
		}
		if o.IDMap || len(m.UIDMappings)+len(m.GIDMappings) > 0 {
			if err := p.idMapped(&out, &m); err != nil {
				return err
			}
		}
		p.Mounts = append(p.Mounts, out)
	}
	return nil
}

// idMapped gives a mount id maps: its own, or those of the container's user namespace (config-linux.md, "idmap").
func (p *Plan) idMapped(out *Mount, m *specs.Mount) error {
	if out.Type != "bind" {
		return unsupported("the mount on %s: only bind mounts have id maps", m.Destination)
	}
	out.UIDMaps, out.GIDMaps = idMaps(m.UIDMappings), idMaps(m.GIDMappings)
	if len(out.UIDMaps)+len(out.GIDMaps) == 0 {
		out.UIDMaps, out.GIDMaps = p.UIDMaps, p.GIDMaps
	}
	if err := namespace.CheckMaps("user", out.UIDMaps); err != nil {
		return err
	}
	return namespace.CheckMaps("group", out.GIDMaps)
}

// once cleans paths and leaves out those that are there already.
func once(in []string) (out []string) {
	for _, p := range in {
		if p = path.Clean(p); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// netDevices are devices of the host's that the container gets (config-linux.md, "Network Devices").
func (p *Plan) netDevices(devices map[string]specs.LinuxNetDevice) error {
	if len(devices) == 0 {
		return nil
	}
	if !p.has("network") {
		return invalid("netDevices need a network namespace")
	}
	p.NetDevices = map[string]string{}
	taken := map[string]string{}
	for _, name := range sortedKeys(devices) {
		to := cmp.Or(devices[name].Name, name)
		if err := netdev.CheckName(name, false); err != nil {
			return err
		}
		if err := netdev.CheckName(to, true); err != nil {
			return err
		}
		if other := taken[to]; other != "" && !strings.Contains(to, "%d") {
			return invalid("network devices %s and %s have the same name %s in the container", other, name, to)
		}
		if err := netdev.Exists(name); err != nil {
			return err
		}
		p.NetDevices[name], taken[to] = to, name
	}
	return nil
}

func (p *Plan) paths() error {
	switch p.Root.Propagation {
	case "", "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable":
	default:
		return invalid("rootfsPropagation %q is unknown", p.Root.Propagation)
	}
	for _, list := range [][]string{p.Masked, p.Readonly} {
		for _, m := range list {
			if !path.IsAbs(m) {
				return invalid("path %q to mask or protect is not absolute", m)
			}
		}
	}
	return nil
}

// defaultDevices are there in every container (config-linux.md, "Default Devices").
func defaultDevices() []Device {
	return []Device{
		{"/dev/null", unix.S_IFCHR | 0o666, 1, 3, 0, 0}, {"/dev/zero", unix.S_IFCHR | 0o666, 1, 5, 0, 0},
		{"/dev/full", unix.S_IFCHR | 0o666, 1, 7, 0, 0}, {"/dev/random", unix.S_IFCHR | 0o666, 1, 8, 0, 0},
		{"/dev/urandom", unix.S_IFCHR | 0o666, 1, 9, 0, 0}, {"/dev/tty", unix.S_IFCHR | 0o666, 5, 0, 0, 0},
	}
}

func deviceKind(t string) (uint32, bool) {
	switch t {
	case "c", "u":
		return unix.S_IFCHR, true
	case "b":
		return unix.S_IFBLK, true
	case "p":
		return unix.S_IFIFO, true
	}
	return 0, false
}

// allowDefaults lets a container that may not open every device open those that each has, and terminals; engines rely on
// the runtime for that.
func (p *Plan) allowDefaults() {
	if p.Resources == nil || len(p.Resources.Devices) == 0 {
		return
	}
	r := *p.Resources
	r.Devices = append([]specs.LinuxDeviceCgroup{}, r.Devices...)
	allow := func(major, minor int64) {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Access: "rwm"}
		if minor >= 0 {
			d.Minor = &minor
		}
		r.Devices = append(r.Devices, d)
	}
	// Nodes of any device may be made: it is opening them that counts, and the specification's own have to be made.
	r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: "m"}, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Access: "m"})
	for _, d := range defaultDevices() {
		allow(int64(d.Major), int64(d.Minor))
	}
	allow(5, 2)    // ptmx
	allow(136, -1) // pts
	p.Resources = &r
}

func (p *Plan) devices(linux *specs.Linux) error {
	p.Devices = defaultDevices()
	p.allowDefaults()
	for _, d := range linux.Devices {
		kind, ok := deviceKind(d.Type)
		if !ok {
			return invalid("device %s has the unknown type %q", d.Path, d.Type)
		}
		if !path.IsAbs(d.Path) || d.Major < 0 || d.Minor < 0 {
			return invalid("device %q: want an absolute path and numbers", d.Path)
		}
		out := Device{Path: path.Clean(d.Path), Mode: kind | 0o666, Major: uint32(d.Major), Minor: uint32(d.Minor)}
		if d.FileMode != nil {
			out.Mode = kind | uint32(d.FileMode.Perm())
		}
		if d.UID != nil {
			out.UID = int(*d.UID)
		}
		if d.GID != nil {
			out.GID = int(*d.GID)
		}
		kept := p.Devices[:0]
		for _, have := range p.Devices { // a user's own /dev/null replaces ours
			if have.Path != out.Path {
				kept = append(kept, have)
			}
		}
		p.Devices = append(kept, out)
	}
	return nil
}

// sysctls lets only those through that belong to a namespace of the container: all others would change the host
// (CVE-2022-0811, CVE-2022-0532). Names are compared byte for byte.
func (p *Plan) sysctls() error {
	for _, name := range sortedKeys(p.Sysctl) {
		value := p.Sysctl[name]
		dotted := strings.ReplaceAll(name, "/", ".")
		var ns string
		switch {
		case strings.HasPrefix(dotted, "net."):
			ns = "network"
		case strings.HasPrefix(dotted, "fs.mqueue."), strings.HasPrefix(dotted, "kernel.shm"), strings.HasPrefix(dotted, "kernel.msg"), dotted == "kernel.sem":
			ns = "ipc"
		case dotted == "kernel.domainname" && p.Domainname != "":
			return invalid("sysctl %q is not allowed as it conflicts with the domainname", name)
		case dotted == "kernel.domainname":
			ns = "uts"
		default:
			return invalid("sysctl %q is not in a separate kernel namespace", name)
		}
		if !p.has(ns) {
			return invalid("sysctl %q is not allowed in the host's %s namespace", name, ns)
		}
		if strings.Contains(name, "..") || strings.ContainsAny(name, "\x00\n") || strings.ContainsAny(value, "\x00\n") {
			return invalid("sysctl %q has a name or value that is none", name)
		}
	}
	return nil
}

func (p *Plan) filter(s *specs.LinuxSeccomp) error {
	if s == nil || s.DefaultAction == specs.ActAllow && len(s.Syscalls) == 0 {
		return nil
	}
	program, err := seccomp.Compile(s)
	if err != nil {
		return err
	}
	if program.Notify && s.ListenerPath == "" {
		return invalid("SCMP_ACT_NOTIFY needs a listenerPath")
	}
	for _, call := range s.Syscalls { // with these a listener is handed over, and its agent has not got it yet
		for _, name := range []string{"write", "sendmsg"} {
			if call.Action == specs.ActNotify && slices.Contains(call.Names, name) {
				return invalid("SCMP_ACT_NOTIFY cannot be used for the %s syscall", name)
			}
		}
	}
	p.Seccomp = &Seccomp{program, s.ListenerPath, s.ListenerMetadata}
	return nil
}

func (p *Plan) hooks() error {
	if p.Hooks == nil {
		return nil
	}
	for _, list := range [][]specs.Hook{p.Hooks.Prestart, p.Hooks.CreateRuntime, p.Hooks.CreateContainer, p.Hooks.StartContainer, p.Hooks.Poststart, p.Hooks.Poststop} { //nolint:staticcheck // prestart is deprecated and used
		for _, h := range list {
			if !filepath.IsAbs(h.Path) {
				return invalid("path %q of a hook is not absolute", h.Path)
			}
			if h.Timeout != nil && *h.Timeout <= 0 {
				return invalid("the timeout of hook %s must be positive", h.Path)
			}
		}
	}
	return nil
}

// NewProcess reduces and checks a process, of a specification or of an exec.
func NewProcess(in *specs.Process) (*Process, error) {
	if len(in.Args) == 0 || in.Args[0] == "" {
		return nil, invalid("process.args is empty")
	}
	if !path.IsAbs(in.Cwd) {
		return nil, invalid("process.cwd %q is not absolute", in.Cwd)
	}
	for _, s := range append(append([]string{in.Cwd}, in.Args...), in.Env...) {
		if strings.ContainsRune(s, 0) {
			return nil, invalid("process has an argument or variable with a NUL byte")
		}
	}
	p := &Process{Args: in.Args, Cwd: in.Cwd, Terminal: in.Terminal, UID: in.User.UID, GID: in.User.GID,
		Env: environment(in.Env), Groups: in.User.AdditionalGids, Umask: in.User.Umask, NoNewPrivileges: in.NoNewPrivileges, OOMScoreAdj: in.OOMScoreAdj,
		AppArmor: in.ApparmorProfile, SELinux: in.SelinuxLabel}
	if in.ConsoleSize != nil {
		p.Width, p.Height = uint16(in.ConsoleSize.Width), uint16(in.ConsoleSize.Height)
	}
	if c := in.Capabilities; c != nil {
		p.capabilities(c)
	}
	if in.OOMScoreAdj != nil && (*in.OOMScoreAdj < -1000 || *in.OOMScoreAdj > 1000) {
		return nil, invalid("oomScoreAdj %d is not between -1000 and 1000", *in.OOMScoreAdj)
	}
	if err := lsm.CheckProfile(p.AppArmor); err != nil {
		return nil, err
	}
	if err := lsm.CheckLabel(p.SELinux); err != nil {
		return nil, err
	}
	var err error
	if p.Scheduler, err = newScheduler(in.Scheduler); err != nil {
		return nil, err
	}
	if p.IOPriority, err = newIOPriority(in.IOPriority); err != nil {
		return nil, err
	}
	if a := in.ExecCPUAffinity; a != nil {
		initial, err := bitmask(a.Initial)
		if err == nil {
			p.Affinity, err = bitmask(a.Final)
		}
		if err != nil {
			return nil, err
		}
		if p.Affinity == nil { // we have nothing to do before the last word
			p.Affinity = initial
		}
	}
	return p, p.limits(in.Rlimits)
}

func (p *Process) capabilities(in *specs.LinuxCapabilities) {
	var unknown []string
	for _, set := range []struct {
		to   *caps.Set
		from []string
	}{{&p.Caps.Bounding, in.Bounding}, {&p.Caps.Effective, in.Effective}, {&p.Caps.Permitted, in.Permitted}, {&p.Caps.Inheritable, in.Inheritable}, {&p.Caps.Ambient, in.Ambient}} {
		var no []string
		*set.to, no = caps.Parse(set.from)
		unknown = append(unknown, no...)
	}
	slices.Sort(unknown)
	if unknown = slices.Compact(unknown); len(unknown) > 0 {
		p.Ignored = append(p.Ignored, fmt.Sprintf("ignoring unknown or unavailable capabilities: %v", unknown))
	}
	for _, name := range in.Ambient { // capabilities(7): only what is permitted and inheritable is raised
		if set, _ := caps.Parse([]string{name}); set&^(p.Caps.Permitted&p.Caps.Inheritable) != 0 {
			p.Ignored = append(p.Ignored, "can't raise ambient capability "+name+": operation not permitted")
		}
	}
}

// environment leaves out entries without a name, which are no variables. Of several with one name the last counts.
func environment(in []string) (out []string) {
	last := map[string]int{}
	for i, e := range in {
		if name, _, ok := strings.Cut(e, "="); ok {
			last[name] = i
		}
	}
	for i, e := range in {
		if name, _, ok := strings.Cut(e, "="); ok && name != "" && last[name] == i {
			out = append(out, e)
		}
	}
	return out
}

func (p *Process) limits(in []specs.POSIXRlimit) error {
	for _, r := range in {
		if _, ok := rlimitNumber(r.Type); !ok {
			return invalid("rlimit %q is unknown", r.Type)
		}
		for _, o := range p.Rlimits {
			if o.Name == r.Type {
				return invalid("rlimit %s is there twice", r.Type)
			}
		}
		p.Rlimits = append(p.Rlimits, Rlimit{r.Type, r.Soft, r.Hard})
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
