//go:build linux

package cgroup

import (
	"errors"
	"math"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/systemd"
)

// Unit is the transient scope of systemd that a group is (systemd.scope(5)): systemd makes it and takes it away, and we
// have it delegated ("Delegate="): what is below it is ours, and limits are told to systemd before they are written,
// because it writes what it knows again whenever it is reloaded.
type Unit struct {
	Name  string `json:"name"` // prefix-name.scope
	Slice string `json:"slice"`
	User  bool   `json:"user,omitempty"` // of the user's systemd, not the host's
}

// beside is the name of the hierarchy of version 2 that a hybrid host has beside those of version 1. systemd sees there
// whether a unit has processes; other groups do not need it.
const beside = "unified"

// NewUnit names the group that a scope of systemd will be, by a cgroupsPath of the form slice:prefix:name and the
// container's id. It fails where systemd does not answer.
func NewUnit(cgroupsPath, id string, user bool) (*Group, error) {
	slice, name, err := systemd.Scope(cgroupsPath, id, user)
	if err != nil {
		return nil, err
	}
	mode, err := Detect()
	if err != nil {
		return nil, err
	}
	if user && mode != V2 {
		return nil, errs.New(errs.Unsupported, "name control group", errors.New("a user's systemd has groups of its own with cgroup v2 only"))
	}
	m, err := systemd.Dial(user)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	path, err := m.Path(slice, name)
	if err != nil {
		return nil, err
	}
	g, err := New(path)
	if err != nil {
		return nil, err
	}
	g.state.Unit = &Unit{name, slice, user}
	if mode == Hybrid {
		g.state.Dirs[beside] = Mountpoint + "/" + beside + path
	}
	return g, nil
}

// Unit is the scope that the group is; nil: it is a folder of ours.
func (g *Group) Unit() *Unit { return g.state.Unit }

// withSystemd does something with a connection, which is not kept: systemd would send what nobody reads.
func (g *Group) withSystemd(do func(m *systemd.Manager) error) error {
	m, err := systemd.Dial(g.state.Unit.User)
	if err != nil {
		return err
	}
	defer m.Close()
	return do(m)
}

// StartUnit makes the group's scope, with its limits. systemd makes none that is empty: the process pid is moved there,
// and may end as soon as there is another. More properties come from the container's annotations.
func (g *Group) StartUnit(pid int, description string, more *systemd.Properties, r *specs.LinuxResources) error {
	if r == nil {
		r = &specs.LinuxResources{}
	}
	settings, err := g.settings(r)
	if err != nil {
		return err
	}
	io := "IOAccounting"
	if !g.V2() {
		io = "BlockIOAccounting"
	}
	ps := &systemd.Properties{}
	ps.Text("Description", description)
	ps.Text("Slice", g.state.Unit.Slice)
	ps.Processes("PIDs", pid)
	// All controllers from the beginning: what is used before one is on would not be counted.
	ps.Switch(true, "Delegate", "MemoryAccounting", "CPUAccounting", io, "TasksAccounting")
	ps.Switch(false, "DefaultDependencies") // it neither waits for the host's start nor ends before its end
	ps.Add(more)
	err = g.withSystemd(func(m *systemd.Manager) error {
		if err := g.properties(ps, r, settings, m.Version); err != nil {
			return err
		}
		// systemd has memory.oom.group of a scope since version 253, and takes it only at its begin.
		if group := strings.TrimSpace(r.Unified["memory.oom.group"]); group == "0" || group == "1" {
			n, err := m.Version()
			if err != nil {
				return err
			}
			if n >= 253 {
				ps.Text("OOMPolicy", map[string]string{"0": "continue", "1": "kill"}[group])
			}
		}
		if err := m.StartUnit(g.state.Unit.Name, ps); err != nil || g.V2() {
			return err
		}
		// A unit with limits is why systemd moves processes of its siblings, ours among them with all threads, into
		// groups of more hierarchies. It has done so when it answers the next question.
		_, err := m.Version()
		return err
	})
	if err != nil {
		return err
	}
	if err := g.Create(); err != nil { // in hierarchies that systemd does not know
		return err
	}
	return g.apply(r.Devices, settings)
}

// Settle sees to it that a process that Fork has made is in the group's folder of every hierarchy. With version 1 systemd
// may have moved this process, and with it the thread that was to fork, at any moment.
func (g *Group) Settle(pid int) error {
	if g.state.Unit == nil || g.V2() {
		return nil
	}
	number := strconv.Itoa(pid)
	for c, dir := range g.state.Dirs {
		b, err := os.ReadFile(dir + "/cgroup.procs")
		if err == nil && !contains(strings.Fields(string(b)), number) {
			err = g.write(setting{c, "cgroup.procs", number}, "systemd has moved the thread that forked")
		}
		if err != nil && !isErrno(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// setUnit tells systemd of changed limits, and writes them.
func (g *Group) setUnit(r *specs.LinuxResources) error {
	settings, err := g.settings(r)
	if err != nil {
		return err
	}
	set := func() error {
		err := g.withSystemd(func(m *systemd.Manager) error {
			ps := &systemd.Properties{}
			if err := g.properties(ps, r, settings, m.Version); err != nil || ps.Empty() {
				return err
			}
			return m.SetProperties(g.state.Unit.Name, ps)
		})
		if err != nil {
			return err
		}
		return g.apply(r.Devices, settings)
	}
	// With version 1 systemd writes its device rules again, "deny all" first: nothing may run meanwhile.
	if g.V2() || g.dirOf("freezer") == "" || g.Frosty() {
		return set()
	}
	if err := g.Freeze(); err != nil {
		return err
	}
	return errors.Join(set(), g.Thaw())
}

// stopUnit lets systemd take the group away. Without systemd it is removed as any other: systemd sees that when it is back.
func (g *Group) stopUnit() error {
	m, err := systemd.Dial(g.state.Unit.User)
	if err != nil {
		return nil
	}
	defer m.Close()
	return m.StopUnit(g.state.Unit.Name)
}

// properties translates limits into what systemd knows of them; the rest it does not touch. A CPU quota is made in
// settings what systemd makes of it. version is systemd's, asked for only where it matters.
func (g *Group) properties(ps *systemd.Properties, r *specs.LinuxResources, settings []setting, version func() (int, error)) error {
	deviceProperties(ps, r.Devices, g.V2())
	idle, period := false, ""
	for i := range settings {
		s := &settings[i]
		value := strings.TrimSpace(s.value)
		var err error
		switch s.file {
		case "cpu.idle":
			// Since version 252 systemd knows it as a weight of 0.
			if value == "1" {
				var n int
				n, err = version()
				idle = n >= 252
			}
			if idle {
				ps.Number("CPUWeight", 0)
			}
		case "cpu.cfs_period_us":
			period = value
			if i+1 == len(settings) || settings[i+1].file != "cpu.cfs_quota_us" {
				_, err = addQuota(ps, "max", period)
			}
		case "cpu.cfs_quota_us":
			s.value, err = addQuota(ps, value, period)
		case "cpu.max": // QUOTA PERIOD
			quota, period, _ := strings.Cut(value, " ")
			quota, err = addQuota(ps, quota, period)
			s.value = strings.TrimSpace(quota + " " + period)
		default:
			if name := propertyOf(s.file); name != "" && !(idle && name == "CPUWeight") {
				err = addProperty(ps, name, value)
			}
		}
		if err != nil {
			return errs.New(errs.Invalid, "set "+s.file+" to "+value, err)
		}
	}
	return nil
}

// propertyOf is the property for a file's value; "" is none.
func propertyOf(file string) string {
	const names = " cpu.shares:CPUShares cpu.weight:CPUWeight cpuset.cpus:AllowedCPUs cpuset.mems:AllowedMemoryNodes" +
		" memory.limit_in_bytes:MemoryLimit memory.max:MemoryMax memory.high:MemoryHigh memory.low:MemoryLow memory.min:MemoryMin" +
		" memory.swap.max:MemorySwapMax pids.max:TasksMax io.weight:IOWeight blkio.weight:BlockIOWeight blkio.bfq.weight:BlockIOWeight "
	_, rest, _ := strings.Cut(names, " "+file+":")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// addProperty gives systemd a value. The weight of one device has no property.
func addProperty(ps *systemd.Properties, name, value string) error {
	switch {
	case strings.HasPrefix(name, "Allowed"):
		mask, err := bits(value)
		if err == nil {
			ps.Bytes(name, mask)
		}
		return err
	case value == "max" || value == "-1":
		ps.Number(name, math.MaxUint64)
		return nil
	case strings.Contains(value, ":"):
		return nil
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(value, "default "), 10, 64)
	if err != nil {
		return errors.New("want a number or max")
	}
	if name == "TasksMax" {
		n = max(n, 1) // systemd takes no 0
	}
	ps.Number(name, n)
	return nil
}

// bits makes a list a mask of bits, the lowest first.
func bits(list string) ([]byte, error) {
	var mask []byte
	err := CheckList(list)
	if err == nil {
		each(list, func(n uint64) {
			for uint64(len(mask)) <= n/8 {
				mask = append(mask, 0)
			}
			mask[n/8] |= 1 << (n % 8)
		})
	}
	return mask, err
}

// addQuota adds a quota in a period, both in microseconds, of which systemd knows whole hundredths of a CPU: it is rounded
// up to one, as runc does, and what we write ourselves shall be the same.
func addQuota(ps *systemd.Properties, quota, period string) (rounded string, err error) {
	every, perSecond := uint64(100000), uint64(math.MaxUint64)
	if period != "" {
		if every, err = strconv.ParseUint(period, 10, 32); err != nil || every == 0 {
			return "", errors.New("want a period in microseconds")
		}
	}
	if quota != "max" && quota != "-1" {
		n, err := strconv.ParseUint(quota, 10, 40)
		if err != nil {
			return "", errors.New("want a quota in microseconds")
		}
		const hundredth, second = 10000, 1000000
		perSecond = (n*second + every*hundredth - 1) / (every * hundredth) * hundredth
		quota = strconv.FormatUint(perSecond*every/second, 10)
	}
	ps.Number("CPUQuotaPeriodUSec", every)
	ps.Number("CPUQuotaPerSecUSec", perSecond)
	return quota, nil
}
