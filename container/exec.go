//go:build linux

package container

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/linux/tty"
)

// ExecOptions say what is run in a running container.
type ExecOptions struct {
	Process *Process

	Stdin, Stdout, Stderr *os.File // without a terminal; nil is /dev/null
	ConsoleSocket         string   // with a terminal: its master is sent there; "" keeps it (Exec.Console)
	PreserveFDs           int      // so many descriptors from 3 on are the program's
	PidFile               string
	PidfdSocket           string   // gets a descriptor of the process (SCM_RIGHTS); may be ""
	IgnorePaused          bool     // wait until the container is resumed, instead of an error
	Cgroup                []string // below the container's own: see [cgroup.Group.Below]
}

// Exec is a further process in a container.
type Exec struct {
	pid     int
	pidfd   *os.File
	console *os.File
	talk    channel
}

// Exec runs a further process in the container. It is in all of the container's namespaces and in its control group from
// its first instruction on, and goes the last mile that the first process has gone. Exec returns when the program has
// been executed.
func (c *Container) Exec(o ExecOptions) (_ *Exec, err error) {
	group := c.group
	if len(o.Cgroup) > 0 {
		if group, err = c.group.Below(o.Cgroup); err != nil {
			return nil, err
		}
	}
	switch s := c.Status(); {
	case s == specs.StateStopped:
		return nil, errs.Text(errs.Conflict, "cannot exec in a stopped container")
	case s == statePaused && !o.IgnorePaused, s != specs.StateCreated && group.Frosty() && !o.IgnorePaused:
		// A process that is born into a frozen group never runs, and we would wait for it for ever.
		return nil, errs.Text(errs.Conflict, "cannot exec in a paused container (use --ignore-paused to override)")
	}
	parent, child, err := pair()
	if err != nil {
		return nil, err
	}
	e := &Exec{talk: parent}
	defer func() {
		if err != nil {
			e.abandon()
		}
	}()
	err = c.spawn(e, &o, group, child)
	child.close() // or we would never hear that the process has let go of it
	if err == nil {
		err = e.prepare(c, &o)
	}
	if errors.Is(err, unix.EAGAIN) {
		err = c.explainEAGAIN(group, err)
	}
	if err != nil {
		return nil, err
	}
	if o.PidfdSocket != "" {
		if err := sendPidfd(o.PidfdSocket, e.pidfd); err != nil {
			return nil, err
		}
	}
	if o.PidFile != "" {
		err = os.WriteFile(o.PidFile, []byte(strconv.Itoa(e.pid)), 0o644)
	}
	return e, errs.Wrap("write pid file", err)
}

// spawn makes the process.
func (c *Container) spawn(e *Exec, o *ExecOptions, group *cgroup.Group, child channel) error {
	program, err := Seal().take()
	if err != nil {
		return err
	}
	defer program.Close()
	files, cleanup, err := c.execFiles(o, child)
	defer cleanup()
	if err != nil {
		return err
	}
	ours, theirs, err := c.foreignNamespaces()
	defer closeAll(ours)
	defer closeAll(theirs)
	if err != nil {
		return err
	}
	l := &launch{part: "exec", program: program, files: files, preserved: o.PreserveFDs, group: group, ours: ours, theirs: theirs}
	e.pid, e.pidfd, err = l.start("born in the container's control group, it enters the container's namespaces")
	if err == nil {
		err = group.Settle(e.pid)
	}
	return errs.Wrap("clone process", err)
}

// foreignNamespaces opens the container's namespaces that are not ours: those that a thread of ours may enter, whose
// children are born there, and those that only a process without threads may enter.
func (c *Container) foreignNamespaces() (ours, theirs []opened, err error) {
	self := os.Getpid()
	for _, k := range namespace.Kinds {
		if !k.Supported() || namespace.Same(self, c.Init, k) {
			continue
		}
		f, err := namespace.Open(c.Init, k)
		if err != nil {
			return ours, theirs, err
		}
		if alone(k) {
			theirs = append(theirs, opened{k, f})
		} else {
			ours = append(ours, opened{k, f})
		}
	}
	if !c.alive() { // the number may mean another process by now
		return ours, theirs, errs.Text(errs.Conflict, "cannot exec in a stopped container")
	}
	return ours, theirs, nil
}

// execFiles lays out the descriptors of the process, as initFiles does.
func (c *Container) execFiles(o *ExecOptions, child channel) (files []int, cleanup func(), err error) {
	var mine []*os.File
	cleanup = func() {
		for _, f := range mine {
			f.Close()
		}
	}
	for _, f := range []*os.File{o.Stdin, o.Stdout, o.Stderr} {
		if f == nil || o.Process.Terminal {
			if f, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
				return nil, cleanup, errs.Wrap("open /dev/null", err)
			}
			mine = append(mine, f)
		}
		files = append(files, int(f.Fd()))
	}
	for fd := 3; fd < 3+o.PreserveFDs; fd++ {
		files = append(files, fd)
	}
	config := initConfig{Plan: &Plan{Process: o.Process, Seccomp: c.Made.Seccomp, Personality: c.Made.Personality, MemoryPolicy: c.Made.MemoryPolicy}, Preserved: o.PreserveFDs}
	f, err := configFile(&config)
	if err != nil {
		return nil, cleanup, err
	}
	mine = append(mine, f)
	return append(files, int(child), int(f.Fd())), cleanup, nil
}

// threadsOfExec is how many threads the process has before it executes its program.
const threadsOfExec = 5

// explainEAGAIN says why there could be no further process, or none that came as far as its program.
func (c *Container) explainEAGAIN(group *cgroup.Group, err error) error {
	if !c.alive() {
		return errs.Text(errs.Conflict, "cannot exec in a stopped container")
	}
	m := group.Marks()
	if m.PidsLimit == 0 || m.PidsHits == 0 {
		return err
	}
	return errs.New(errs.Conflict, "exec in container "+c.ID, fmt.Errorf("it may have %d processes, and a further one cannot begin", m.PidsLimit)).
		WithHint(fmt.Sprintf("it needs %d for a moment: raise the limit", threadsOfExec))
}

// prepare talks with the process until it has executed its program. One that has ended before is EAGAIN: it got no thread,
// or the container has ended.
func (e *Exec) prepare(c *Container, o *ExecOptions) error {
	said := false
	for {
		m, file, err := e.talk.receive()
		if err != nil {
			return err
		}
		if m == nil && !said {
			return errs.Wrap("start process", unix.EAGAIN)
		}
		if m == nil { // the channel has closed with the execve, or the process is gone: Wait tells
			e.talk.close()
			e.talk = -1
			return nil
		}
		said = true
		switch m.Kind {
		case failed:
			importSteps(m.Steps)
			return m.Error.Err()
		case listener:
			if err := c.sendListener(file, e.pid); err != nil {
				return err
			}
		case ready:
			if file != nil && o.ConsoleSocket != "" {
				err := tty.SendConsole(o.ConsoleSocket, file)
				file.Close()
				if err != nil {
					return err
				}
			} else {
				e.console = file
			}
			if err := e.talk.proceed(); err != nil {
				return err
			}
		}
	}
}

func (e *Exec) abandon() {
	if e.pid > 0 {
		_ = unix.Kill(e.pid, unix.SIGKILL)
		_, _ = e.Wait()
	}
	if e.talk >= 0 {
		e.talk.close()
	}
	e.Close()
}

// Close gives back what is open of the process. It does not end it.
func (e *Exec) Close() {
	for _, f := range []*os.File{e.pidfd, e.console} {
		if f != nil {
			f.Close()
		}
	}
}

// Pid is the process's pid on the host.
func (e *Exec) Pid() int { return e.pid }

// PidFD is a descriptor of the process (pidfd_open(2)).
func (e *Exec) PidFD() *os.File { return e.pidfd }

// Console is the master of the process's terminal; nil without one, or when it was sent to a socket.
func (e *Exec) Console() *os.File { return e.console }

// Wait reaps the process.
func (e *Exec) Wait() (unix.WaitStatus, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(e.pid, &status, unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return status, errs.Wrap("wait for process", err)
	}
}

// ExecMain is the process's side of Exec: it is in the container already. It never returns. The calling goroutine must
// be locked to the main thread.
func ExecMain() {
	runChild("exec", func(p *initProcess) error {
		for _, step := range []func() error{
			p.joinKeyring, p.setOOMScore, p.setSchedule, p.setAffinity, p.openTerminal, p.beginSession, p.useTerminal, p.Process.setLimits, p.setLabels, p.setNoNewPrivileges, p.closeFiles, p.Process.tryCwd, p.Process.setHome,
			p.loadSeccompEarly, p.Process.dropPrivileges, p.Process.enterCwd,
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return p.execute()
	})
}

// openTerminal makes a terminal in the container's devpts.
func (p *initProcess) openTerminal() error {
	if !p.Process.Terminal {
		return nil
	}
	pts, err := os.OpenFile("/dev/pts", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap("open terminal", err)
	}
	defer pts.Close()
	p.console, p.slave, err = tty.Open(pts, p.Process.Width, p.Process.Height)
	return err
}

// beginSession: signals of the caller's terminal do not reach the process.
func (p *initProcess) beginSession() error {
	if p.Process.Terminal {
		return nil // TakeControl does it
	}
	_, err := unix.Setsid()
	return errs.Wrap("begin session", err)
}
