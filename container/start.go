//go:build linux

package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/linux/netdev"
	"github.com/berth-containers/berth/linux/tty"
)

// CreateOptions say how a container is made.
type CreateOptions struct {
	Root   string // folder of states; the container's is <Root>/<ID>
	ID     string
	Bundle string
	Plan   *Plan

	Program   *Sealed      // for init; nil: it is made when it is needed
	Meanwhile func() error // done while init makes itself ready; may be nil
	Rootfs    *mount.Tree  // takes the place of Plan.Root.Path: a mount that is attached nowhere yet; may be nil

	Stdin, Stdout, Stderr *os.File // without a terminal; nil is /dev/null
	ConsoleSocket         string   // with a terminal: its master is sent there; "" keeps it (Console)
	PreserveFDs           int      // so many descriptors from 3 on are the program's
	Detached              bool     // Start may be called by another process: init waits at a FIFO
	NoPivot               bool     // the root is moved, for a host whose root is a ramfs
	PidFile               string
	PidfdSocket           string // gets a descriptor of the first process (SCM_RIGHTS); may be ""

	Systemd  bool // the control group is a scope that systemd makes; CgroupsPath is slice:prefix:name
	Rootless bool // it is the systemd of the user who runs us
}

// initConfig is what init gets beside the plan. Descriptors are numbers in init.
type initConfig struct {
	*Plan
	Rootfs    int  `json:"rootfs"`              // a tree, or 0
	PidsLimit int  `json:"pidsLimit,omitempty"` // file that a low limit of processes is written to last, or 0
	FIFO      int  `json:"fifo"`                // or 0
	Observer  int  `json:"observer"`            // or 0
	AskHooks  bool `json:"askHooks"`
	Preserved int  `json:"preserved"`
	NoPivot   bool `json:"noPivot"`
	State     []byte
}

// Descriptors of init: the standard streams, those preserved, then the channel and the configuration.
func channelFD(preserved int) int { return 3 + preserved }

// Create makes a container whose init has done everything but execute. If it fails, nothing of it is left.
func Create(o CreateOptions) (_ *Container, err error) {
	if err := CheckID(o.ID); err != nil {
		return nil, err
	}
	if o.Plan.Process == nil {
		return nil, invalid("process is missing")
	}
	if o.Plan.Process.Terminal && o.ConsoleSocket == "" && o.Detached {
		return nil, invalid("a detached container with a terminal needs a console socket")
	}
	if !o.Plan.Process.Terminal && o.ConsoleSocket != "" {
		return nil, invalid("a console socket is for a container with a terminal")
	}
	c := &Container{dir: filepath.Join(o.Root, o.ID), talk: -1}
	c.record = record{Version: specs.Version, ID: o.ID, Bundle: o.Bundle, Created: time.Now().UTC(), Made: o.Plan, Annotations: o.Plan.Annotations}
	if err := os.MkdirAll(o.Root, 0o700); err != nil {
		return nil, errs.Wrap("create container "+o.ID, err)
	}
	if err := os.Mkdir(c.dir, 0o711); err != nil {
		if !errors.Is(err, fs.ErrExist) {
			return nil, errs.Wrap("create container "+o.ID, err)
		}
		if _, err := os.Lstat(filepath.Join(c.dir, stateFile)); err == nil {
			return nil, errs.Text(errs.Conflict, "container with id "+o.ID+" already exists")
		}
	}
	defer func() {
		if err != nil {
			c.abandon()
		}
	}()
	if err := c.makeGroup(&o); err != nil {
		return nil, err
	}
	if err := c.clone(&o); err != nil {
		return nil, err
	}
	c.endHold()
	if !o.Detached { // nobody else looks at it before Start; what can be done while init works is done
		if err := c.save(); err != nil {
			return nil, err
		}
	}
	if o.Meanwhile != nil {
		if err := o.Meanwhile(); err != nil {
			return nil, err
		}
	}
	if err := c.moveDevices(); err != nil {
		return nil, err
	}
	if err := c.prepare(&o); err != nil {
		return nil, err
	}
	if o.Detached {
		if err := c.save(); err != nil {
			return nil, err
		}
	}
	if o.PidfdSocket != "" {
		if err := sendPidfd(o.PidfdSocket, c.pidfd); err != nil {
			return nil, err
		}
	}
	return c, c.writePidFile(o.PidFile)
}

func sendPidfd(socket string, pidfd *os.File) error {
	return tty.SendTo(socket, pidfd, "pidfd", "the caller holds the process, whatever its number means later")
}

// abandon takes back a half-made container.
func (c *Container) abandon() {
	c.endHold()
	if c.Init > 0 {
		_ = unix.Kill(c.Init, unix.SIGKILL)
	}
	if c.group != nil {
		_ = c.group.Kill()
	}
	if c.Init > 0 {
		_, _ = c.Wait()
	}
	c.closeFiles()
	if c.group != nil {
		_ = c.group.Delete()
	}
	_ = os.RemoveAll(c.dir)
}

func (c *Container) closeFiles() {
	if c.talk >= 0 {
		c.talk.close()
		c.talk = -1
	}
	for _, f := range []*os.File{c.pidfd, c.console} {
		if f != nil {
			f.Close()
		}
	}
	c.pidfd, c.console = nil, nil
}

func (c *Container) makeGroup(o *CreateOptions) error {
	g, err := c.newGroup(o)
	if err != nil {
		return err
	}
	if g.Frosty() { // init would never run, and we would wait for it for ever
		return errs.New(errs.Conflict, "make control group "+g.Path(), fmt.Errorf("container's cgroup unexpectedly frozen"))
	}
	if pids, err := g.Pids(); err == nil && len(pids) > 0 {
		return errs.New(errs.Conflict, "make control group "+g.Path(), fmt.Errorf("container's cgroup is not empty: %d process(es) found", len(pids)))
	}
	c.group, c.Cgroup = g, g.State()
	// From here on a killed creator's half can be found and removed.
	if err := c.save(); err != nil {
		return err
	}
	if g.Unit() != nil {
		return c.startScope()
	}
	if err := g.Create(); err != nil {
		return err
	}
	r := c.Made.Resources
	if _, low := c.Made.lowPidsLimit(); low {
		roomy, room := *r, int64(roomForInit)
		roomy.Pids = &specs.LinuxPids{Limit: &room}
		r = &roomy
	}
	return g.Set(r)
}

// roomForInit is the limit of processes under which init begins when the container's own is lower. Init has some threads,
// which count, and a program in Go that cannot make one ends. It goes down to the limit itself, just before the execve.
const roomForInit = 16

// lowPidsLimit is a limit of processes that leaves no room for init.
func (p *Plan) lowPidsLimit() (limit int64, low bool) {
	if p.Resources == nil || p.Resources.Pids == nil || p.Resources.Pids.Limit == nil {
		return 0, false
	}
	limit = *p.Resources.Pids.Limit
	return limit, limit >= 0 && limit < roomForInit
}

// moveDevices moves devices of the host to init, which waits for them: kernel parameters may be theirs.
func (c *Container) moveDevices() error {
	if len(c.Made.NetDevices) == 0 {
		return nil
	}
	kind, _ := namespace.ByName("network")
	ns, err := namespace.Open(c.Init, kind)
	if err != nil {
		return err
	}
	defer ns.Close()
	for _, name := range sortedKeys(c.Made.NetDevices) {
		if err := netdev.Move(name, c.Made.NetDevices[name], ns); err != nil {
			return err
		}
	}
	return c.talk.proceed()
}

// prepare talks with init until it is ready.
func (c *Container) prepare(o *CreateOptions) error {
	for {
		m, file, err := c.talk.receive()
		if err != nil {
			return err
		}
		if m == nil {
			return c.died()
		}
		switch m.Kind {
		case failed:
			importSteps(m.Steps)
			return m.Error.Err()
		case atClocks:
			err := os.WriteFile("/proc/"+strconv.Itoa(c.Init)+"/timens_offsets", []byte(c.Made.TimeOffsets), 0)
			if err == nil {
				err = c.talk.proceed()
			}
			if err != nil {
				return errs.Wrap("make time namespace", err)
			}
		case atHooks:
			if err := c.runHooks(c.Made.Hooks.Prestart, "prestart"); err != nil { //nolint:staticcheck // deprecated and used
				return err
			}
			if err := c.runHooks(c.Made.Hooks.CreateRuntime, "createRuntime"); err != nil {
				return err
			}
			if err := c.talk.proceed(); err != nil {
				return err
			}
		case listener: // until its agent has it, init may wait in any call
			if err := c.sendListener(file, c.Init); err != nil {
				return err
			}
		case ready:
			c.steps = m.Steps
			return c.useConsole(file, o.ConsoleSocket)
		}
	}
}

func (c *Container) useConsole(master *os.File, socket string) error {
	if master == nil || socket == "" {
		c.console = master
		return nil
	}
	defer master.Close()
	return tty.SendConsole(socket, master)
}

// died explains an init that has said nothing: the kernel has killed it.
func (c *Container) died() error {
	if c.group.OOMKills() > 0 {
		return errs.New(errs.Internal, "start init", fmt.Errorf("it was killed for lack of memory")).
			WithHint("the memory limit is too low for the container to start")
	}
	return errs.New(errs.Internal, "start init", fmt.Errorf("it has ended"))
}

func (c *Container) writePidFile(file string) error {
	if file == "" {
		return nil
	}
	return errs.Wrap("write pid file", os.WriteFile(file, []byte(strconv.Itoa(c.Init)), 0o644))
}

// clone starts init: in the group and the given namespaces by way of the thread that forks, in the new namespaces by
// the flags of its clone.
func (c *Container) clone(o *CreateOptions) error {
	if o.Program == nil {
		o.Program = Seal()
	}
	program, err := o.Program.take()
	if err != nil {
		return err
	}
	defer program.Close()
	parent, child, err := pair()
	if err != nil {
		return err
	}
	defer child.close()
	c.talk = parent
	files, cleanup, err := c.initFiles(o, child)
	defer cleanup()
	if err != nil {
		return err
	}
	given, err := c.givenNamespaces()
	defer closeAll(given)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(given, func(n opened) bool { return alone(n.kind) && n.kind.Name != "mount" }) {
		err = c.launchInit(o, program, files, given)
	} else {
		err = c.forkInit(o, program, files, given)
	}
	if err != nil {
		c.Init = 0
		return errs.Wrap("clone init", err)
	}
	c.Since, _ = StartTime(c.Init)
	return c.group.Settle(c.Init)
}

// givenNamespaces opens those that are there already, in the order in which they are entered.
func (c *Container) givenNamespaces() (out []opened, err error) {
	for _, k := range namespace.Kinds {
		path := c.Made.given(k.Name)
		if path == "" {
			continue
		}
		f, err := namespace.OpenPath(path, k)
		if err != nil {
			return out, err
		}
		out = append(out, opened{k, f})
	}
	return out, nil
}

// forkInit starts init from a thread that is in the given namespaces.
func (c *Container) forkInit(o *CreateOptions, program *os.File, files []uintptr, given []opened) error {
	// fork moves files that are in the way to numbers above all others.
	exe, err := high(program, int(slices.Max(files))+len(files)+2)
	if err != nil {
		return err
	}
	defer unix.Close(exe)
	attr := &syscall.ProcAttr{Dir: "/", Env: initEnvironment(o.PreserveFDs), Files: files, Sys: c.sysProcAttr()}
	pidfd := -1
	attr.Sys.PidFD = &pidfd
	dir, err := c.group.Dir()
	if err != nil {
		return err
	}
	if dir != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(dir.Fd())
	}
	err = c.group.Fork(func() error {
		for _, n := range given {
			if err := namespace.Enter(n.file, n.kind); err != nil {
				return err
			}
		}
		return trace.Step("clone", "init is born in the new namespaces", "flags", cloneFlags(c.Made), "uid_map", c.Made.UIDMaps, "cgroup", c.group.Path()).Do(func() (err error) {
			c.Init, err = syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(exe), []string{"berth-runtime", "init"}, attr)
			return err
		})
	})
	if err == nil && pidfd >= 0 {
		c.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	}
	return err
}

// launchInit starts init in namespaces that no thread of ours can enter. What is new belongs to the given user namespace:
// a process that has entered it makes init.
func (c *Container) launchInit(o *CreateOptions, program *os.File, files []uintptr, given []opened) (err error) {
	sys := c.sysProcAttr()
	l := &launch{part: "init", program: program, preserved: o.PreserveFDs, group: c.group, fresh: sys.Cloneflags, session: sys.Setsid}
	for _, f := range files {
		l.files = append(l.files, int(f))
	}
	for _, n := range given {
		if alone(n.kind) {
			l.theirs = append(l.theirs, n)
		} else {
			l.ours = append(l.ours, n)
		}
	}
	c.Init, c.pidfd, err = l.start("init is born in new namespaces of a given one")
	return err
}

// initEnvironment holds nothing of the caller's but what a test asks for.
func initEnvironment(preserved int) []string {
	env := []string{"BERTH_INIT=" + strconv.Itoa(preserved), "GOMAXPROCS=1"} // there is one thing to do at a time
	if fault, ok := os.LookupEnv("BERTH_FAULT"); ok {
		env = append(env, "BERTH_FAULT="+fault)
	}
	return env
}

// cloneFlags names the namespaces that the clone makes. A time namespace is made by init itself, for its execve.
func cloneFlags(p *Plan) []string {
	var out []string
	for _, n := range p.Namespaces {
		if n.Path == "" && n.Kind != "time" {
			out = append(out, n.Kind)
		}
	}
	return out
}

func (c *Container) sysProcAttr() *syscall.SysProcAttr {
	p := c.Made
	// With a terminal init begins its session itself, as that terminal's owner.
	sys := &syscall.SysProcAttr{Setsid: p.Process == nil || !p.Process.Terminal}
	for _, n := range p.Namespaces {
		if k, _ := namespace.ByName(n.Kind); n.Path == "" && n.Kind != "time" {
			sys.Cloneflags |= k.Flag
		}
	}
	if p.fresh("user") {
		sys.UidMappings, sys.GidMappings = namespace.SysProc(p.UIDMaps), namespace.SysProc(p.GIDMaps)
		sys.GidMappingsEnableSetgroups = true
		sys.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	}
	return sys
}

// initFiles lays out init's descriptors.
func (c *Container) initFiles(o *CreateOptions, child channel) (files []uintptr, cleanup func(), err error) {
	var opened []*os.File
	cleanup = func() {
		for _, f := range opened {
			f.Close()
		}
	}
	open := func(path string, flags int) (uintptr, error) {
		f, err := os.OpenFile(path, flags|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		opened = append(opened, f)
		return f.Fd(), nil
	}
	for _, f := range []*os.File{o.Stdin, o.Stdout, o.Stderr} {
		if f != nil && !o.Plan.Process.Terminal {
			files = append(files, f.Fd())
			continue
		}
		null, err := open("/dev/null", unix.O_RDWR)
		if err != nil {
			return nil, cleanup, errs.Wrap("open /dev/null", err)
		}
		files = append(files, null)
	}
	for fd := 3; fd < 3+o.PreserveFDs; fd++ {
		files = append(files, uintptr(fd))
	}
	plan := *o.Plan // with descriptors that are of this start only
	config := initConfig{Plan: &plan, Preserved: o.PreserveFDs, NoPivot: o.NoPivot}
	if h := o.Plan.Hooks; h != nil {
		config.AskHooks = len(h.Prestart)+len(h.CreateRuntime) > 0 //nolint:staticcheck // deprecated and used
		config.State, _ = json.Marshal(&specs.State{Version: c.Version, ID: c.ID, Status: specs.StateCreating, Bundle: c.Bundle, Annotations: c.Annotations})
	}
	next := channelFD(o.PreserveFDs) + 2
	var more []uintptr
	add := func(fd uintptr) int {
		more = append(more, fd)
		return next + len(more) - 1
	}
	if o.Rootfs != nil {
		config.Rootfs = add(o.Rootfs.File().Fd())
	}
	if _, low := o.Plan.lowPidsLimit(); low {
		f, err := c.group.PidsLimit()
		if err != nil {
			return nil, cleanup, errs.Wrap("open limit of processes", err)
		}
		opened = append(opened, f)
		config.PidsLimit = add(f.Fd())
	}
	if o.Detached {
		fd, err := c.makeFIFO(open)
		if err != nil {
			return nil, cleanup, err
		}
		config.FIFO = add(fd)
	}
	err = plan.openMounts(func(f *os.File) int {
		opened = append(opened, f)
		return add(f.Fd())
	})
	if err != nil {
		return nil, cleanup, err
	}
	if f := trace.Observer(); f != nil {
		config.Observer = add(f.Fd())
	}
	f, err := configFile(&config)
	if err != nil {
		return nil, cleanup, err
	}
	opened = append(opened, f)
	return append(append(files, uintptr(child), f.Fd()), more...), cleanup, nil
}

// makeFIFO makes the file at which init waits. Init has it open in both directions, so it sees no end before the go; a
// writer finds out whether init still waits, because without a reader the open fails.
func (c *Container) makeFIFO(open func(string, int) (uintptr, error)) (uintptr, error) {
	path := filepath.Join(c.dir, startFIFO)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return 0, errs.Wrap("make "+path, err)
	}
	fd, err := open(path, unix.O_RDWR)
	return fd, errs.Wrap("open "+path, err)
}

// configFile holds init's configuration in memory: of any size, read at once, and in no argument list.
func configFile(config *initConfig) (*os.File, error) {
	b, err := json.Marshal(config)
	if err != nil {
		return nil, errs.Wrap("encode configuration of init", err)
	}
	fd, err := unix.MemfdCreate("berth-config", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate("berth-config", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, errs.Wrap("make configuration of init", err)
	}
	f := os.NewFile(uintptr(fd), "berth-config")
	if _, err := f.WriteAt(b, 0); err != nil {
		f.Close()
		return nil, errs.Wrap("write configuration of init", err)
	}
	return f, nil
}

// Start lets init execute the container's program, and in the process that made the container waits until it has
// or knows why not.
func (c *Container) Start() error {
	if c.talk < 0 {
		return c.startByFIFO()
	}
	if err := c.talk.proceed(); err != nil {
		return err
	}
	for {
		m, _, err := c.talk.receive()
		if err != nil {
			return err
		}
		if m == nil {
			break
		}
		if m.Kind == failed {
			importSteps(m.Steps)
			return m.Error.Err()
		}
	}
	c.talk.close()
	c.talk = -1
	return c.runHooks(c.hooks().Poststart, "poststart")
}

func (c *Container) startByFIFO() error {
	path := filepath.Join(c.dir, startFIFO)
	switch s := c.Status(); s {
	case specs.StateCreated:
	case specs.StateStopped:
		return errs.Text(errs.Conflict, "cannot start a container that has stopped")
	default:
		return errs.Text(errs.Conflict, "cannot start a container in the "+string(s)+" state")
	}
	err := trace.Step("write", "init has waited for this byte to execute the program", "file", path).Do(func() error {
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = unix.Write(fd, []byte{1})
		return err
	})
	if err != nil {
		return errs.Wrap("start container "+c.ID, err)
	}
	if err := os.Remove(path); err != nil {
		return errs.Wrap("start container "+c.ID, err)
	}
	if err := c.runHooks(c.hooks().Poststart, "poststart"); err != nil {
		_ = c.Delete(true) // nobody else is there to end it (runtime.md, "Lifecycle")
		return err
	}
	return nil
}
