//go:build linux

package systemd

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Properties are settings of a unit (systemd.resource-control(5), with the names of org.freedesktop.systemd1(5)), written
// as they are sent: an array of structures of a name and a variant. Each begins at a multiple of 8 bytes, so they can be
// written before it is known where.
type Properties struct{ encoder }

//go:noinline
func (p *Properties) begin(name, t string) {
	p.pad(8)
	p.text('s', name)
	p.text('g', t)
}

// Text adds a property of the type s.
func (p *Properties) Text(name, text string) {
	p.begin(name, "s")
	p.text('s', text)
}

// Number adds a property of the type t.
//
//go:noinline
func (p *Properties) Number(name string, n uint64) {
	p.begin(name, "t")
	p.number(8, n)
}

// Switch adds properties of the type b.
func (p *Properties) Switch(on bool, names ...string) {
	n := uint64(0)
	if on {
		n = 1
	}
	for _, name := range names {
		p.begin(name, "b")
		p.number(4, n)
	}
}

// Processes adds a property of the type au with one number.
func (p *Properties) Processes(name string, pid int) {
	p.begin(name, "au")
	p.number(4, 4) // bytes
	p.number(4, uint64(pid))
}

// Bytes adds a property of the type ay.
func (p *Properties) Bytes(name string, b []byte) {
	p.begin(name, "ay")
	p.number(4, uint64(len(b)))
	p.b = append(p.b, b...)
}

// Pairs adds a property of the type a(ss).
func (p *Properties) Pairs(name string, pairs [][2]string) {
	p.begin(name, "a(ss)")
	p.array('(', func() {
		for _, pair := range pairs {
			p.pad(8)
			p.text('s', pair[0])
			p.text('s', pair[1])
		}
	})
}

// Add adds all properties of another list.
func (p *Properties) Add(more *Properties) {
	p.pad(8)
	p.b = append(p.b, more.b...)
}

// Empty reports whether there are none.
func (p *Properties) Empty() bool { return len(p.b) == 0 }

// Manager is a systemd that we are connected with: the host's, or a user's.
type Manager struct{ c *conn }

const (
	managerName  = "org.freedesktop.systemd1"
	managerPath  = "/org/freedesktop/systemd1"
	managerIface = "org.freedesktop.systemd1.Manager"

	noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"
	unitExists = "org.freedesktop.systemd1.UnitExists"
)

// Dial connects with the host's systemd, or with that of the user who runs us.
func Dial(user bool) (*Manager, error) { return dialIn("/run", user) }

func dialIn(run string, user bool) (*Manager, error) {
	if fi, err := os.Lstat(run + "/systemd/system"); err != nil || !fi.IsDir() { // sd_booted(3)
		return nil, errs.New(errs.Unsupported, "connect with systemd", errors.New("it does not run on this host")).
			WithHint("without --systemd-cgroup control groups are folders, and cgroupsPath is a path")
	}
	direct, bus := run+"/systemd/private", run+"/dbus/system_bus_socket"
	if user {
		dir := os.Getenv("XDG_RUNTIME_DIR")
		if dir == "" {
			return nil, errs.New(errs.Unsupported, "connect with the user's systemd", errors.New("XDG_RUNTIME_DIR is not set"))
		}
		direct, bus = dir+"/systemd/private", dir+"/bus"
		if own, ok := strings.CutPrefix(os.Getenv("DBUS_SESSION_BUS_ADDRESS"), "unix:path="); ok {
			bus, _, _ = strings.Cut(own, ",")
		}
	}
	c, err := dial(direct, false)
	if err != nil {
		direct := err
		if c, err = dial(bus, true); err != nil {
			return nil, errs.New(errs.Unsupported, "connect with systemd", fmt.Errorf("%w; %w", direct, err))
		}
	}
	return &Manager{c}, nil
}

// Close ends the connection.
func (m *Manager) Close() { m.c.close() }

// call calls a method of systemd's manager; types are those of its arguments, want those of its answer.
func (m *Manager) call(method, types, want string, args encoder) ([]string, error) {
	r := &message{path: managerPath, iface: managerIface, member: method, types: types}
	if method == "Get" {
		r.iface = "org.freedesktop.DBus.Properties"
	}
	if m.c.bus {
		r.destination = managerName
	}
	return m.c.call(r, want, args.b)
}

// texts are arguments of the type s.
func texts(ss ...string) encoder {
	var e encoder
	for _, s := range ss {
		e.text('s', s)
	}
	return e
}

// property reads a property of the manager that is text.
func (m *Manager) property(name string) (string, error) {
	out, err := m.call("Get", "ss", "v", texts(managerIface, name))
	if err != nil {
		return "", errs.New(errs.Internal, "ask systemd for "+name, err)
	}
	return out[0], nil
}

// Version is systemd's number, 252 for "252.38-1~deb12u1"; 0 is one that cannot be read.
func (m *Manager) Version() (int, error) {
	text, err := m.property("Version")
	text = strings.TrimLeft(text, "v")
	n, _ := strconv.Atoi(text[:len(text)-len(strings.TrimLeft(text, "0123456789"))])
	return n, err
}

// StartUnit makes a transient unit and waits until it is active. A unit of this name that has failed, as one whose
// processes were killed, is forgotten first. If it is active, that is an error of the kind Conflict.
func (m *Manager) StartUnit(name string, ps *Properties) error {
	args := texts(name, "replace")
	args.array('(', func() { args.b = append(args.b, ps.b...) })
	args.array('(', func() {})
	for try := 0; ; try++ {
		err := m.job("StartTransientUnit", "ssa(sv)a(sa(sv))", "systemd makes the control group, and leaves what is below to us", name, args)
		if !is(err, unitExists) {
			return err
		}
		if try > 0 {
			return errs.New(errs.Conflict, "start unit "+name, err)
		}
		m.reset(name)
	}
}

// SetProperties changes a unit until it is gone or the host restarts.
func (m *Manager) SetProperties(name string, ps *Properties) error {
	args := texts(name)
	args.number(4, 1) // not on disk
	args.array('(', func() { args.b = append(args.b, ps.b...) })
	return m.job("SetUnitProperties", "sba(sv)", "systemd knows the limits, so that a reload keeps them", name, args)
}

// StopUnit ends a unit and what is in it, and forgets that it has failed. One that is not there is no error.
func (m *Manager) StopUnit(name string) error {
	err := m.job("StopUnit", "ss", "the unit goes with its container", name, texts(name, "replace"))
	m.reset(name)
	if is(err, noSuchUnit) {
		return nil
	}
	return err
}

// reset forgets that a unit has failed, which is what keeps it. There may be nothing to forget.
func (m *Manager) reset(name string) { _, _ = m.call("ResetFailedUnit", "s", "", texts(name)) }

// is reports whether systemd has answered an error of this name.
func is(err error, name string) bool {
	var e *Error
	return errors.As(err, &e) && e.Name == name
}

// job calls a method that begins a job, and waits for its end; that of SetUnitProperties has none.
func (m *Manager) job(method, types, why, unit string, args encoder) error {
	err := trace.Step(method, why, "unit", unit).Do(func() error { return m.do(method, types, args) })
	return errs.Wrap(method+" "+unit, err)
}

func (m *Manager) do(method, types string, args encoder) error {
	want := "o"
	if method == "SetUnitProperties" {
		want = ""
	} else if m.c.bus { // systemd's own socket tells the ends of jobs unasked
		rule := texts("type='signal',interface='" + managerIface + "',member='JobRemoved'")
		_, err := m.c.call(&message{destination: busName, path: busPath, iface: busName, member: "AddMatch", types: "s"}, "", rule.b)
		if err == nil {
			_, err = m.call("Subscribe", "", "", encoder{})
		}
		if err != nil {
			return err
		}
	}
	out, err := m.call(method, types, want, args)
	if err != nil || want == "" {
		return err
	}
	return m.c.waitJob(out[0])
}

// Scope reads a cgroupsPath of the form slice:prefix:name (runc's docs/systemd.md) for a container with the id: its slice,
// and the unit prefix-name.scope in it. Without a path it is that of the id; without a slice that of the host's services or
// the user's.
func Scope(cgroupsPath, id string, user bool) (slice, unit string, err error) {
	if cgroupsPath == "" {
		cgroupsPath = ":berth-runtime:" + id
	}
	parts := strings.Split(cgroupsPath, ":")
	if len(parts) != 3 {
		return "", "", badName("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got " + strconv.Quote(cgroupsPath) + " instead")
	}
	slice, unit = parts[0], parts[1]+"-"+parts[2]+".scope"
	if slice == "" {
		slice = "system.slice"
		if user {
			slice = "user.slice"
		}
	}
	if strings.HasSuffix(parts[2], ".slice") || !validName(unit) { // a slice takes no processes
		return "", "", badName(strconv.Quote(unit) + " is no name of a scope")
	}
	return slice, unit, nil
}

//go:noinline
func badName(why string) error {
	return errs.New(errs.Invalid, "name control group", errors.New(why))
}

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// validName: systemd.unit(5).
func validName(unit string) bool {
	return len(unit) < 256 && strings.Trim(unit, letters+`0123456789:-_.\`) == ""
}

// slicePath is where a slice lies: a-b.slice is a.slice/a-b.slice (systemd.slice(5)); -.slice is the root, "/".
func slicePath(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if slice == "-.slice" {
		return "/", nil
	}
	out, prefix := "/", ""
	for _, part := range strings.Split(name, "-") {
		ok = ok && part != "" && validName(part)
		out += prefix + part + ".slice/"
		prefix += part + "-"
	}
	if !ok {
		return "", badName("invalid slice name: " + slice)
	}
	return out, nil
}

// Path is the control group of a unit of this manager.
func (m *Manager) Path(slice, unit string) (string, error) {
	below, err := slicePath(slice)
	if err != nil {
		return "", err
	}
	top, err := m.property("ControlGroup") // "" or a path
	return path.Join("/", top, below, unit), err
}
