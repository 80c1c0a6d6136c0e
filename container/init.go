//go:build linux

package container

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/lsm"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/tty"
)

// initProcess is the child side of a start.
type initProcess struct {
	initConfig
	talk    channel
	proc    *mount.Procfs // the /proc that was there at the begin: for writes that no container can catch
	console *os.File      // master of the terminal
	slave   *os.File
	newRoot *mount.Root
}

// InitMain is the first process of a container: it makes what is around it the container and executes the container's
// program. It never returns. The calling goroutine must be locked to the main thread.
func InitMain() {
	runChild("init", (*initProcess).run)
}

// runChild is what first and further processes have in common: the configuration, and the report of what has failed.
func runChild(part string, run func(*initProcess) error) {
	debug.SetGCPercent(-1) // it is over before there is garbage to speak of
	runtime.LockOSThread()
	trace.Begin(part)
	preserved, _ := strconv.Atoi(os.Getenv("BERTH_INIT"))
	p := &initProcess{talk: channel(channelFD(preserved))}
	unix.CloseOnExec(int(p.talk))
	err := p.begin()
	if err == nil {
		err = run(p)
	}
	// Only a failure comes here.
	_ = p.talk.send(message{Kind: failed, Error: errs.ToWire(err), Steps: trace.Pack(trace.Records())}, nil)
	os.Exit(1)
}

// begin comes before all that concerns the container.
func (p *initProcess) begin() (err error) {
	// Nobody in the container may trace this process or read its memory before it has become the container's program
	// (CVE-2016-9962).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return errs.Wrap("become untraceable", err)
	}
	if err := p.readConfig(); err != nil {
		return err
	}
	p.proc, err = mount.OpenProcfs()
	return err
}

// run reads as the list of what makes a container.
func (p *initProcess) run() error {
	steps := []func() error{
		p.awaitDevices, p.joinKeyring, p.setTimeOffsets, p.setLoopback, p.setHostname, p.setSysctls, p.setOOMScore, p.setSchedule, p.resetAffinity,
		p.makeRootfs, p.parentHooks, p.enterRootfs,
		p.useTerminal, p.Process.setLimits, p.setLabels, p.setNoNewPrivileges, p.closeFiles, p.Process.tryCwd, p.Process.setHome,
		p.loadSeccompEarly, p.Process.dropPrivileges, p.Process.enterCwd,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return p.execute()
}

func (p *initProcess) readConfig() error {
	f := os.NewFile(uintptr(p.talk)+1, "configuration")
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err == nil {
		err = json.Unmarshal(b, &p.initConfig)
	}
	if err != nil {
		return errs.Wrap("read configuration", err)
	}
	if p.Observer > 0 {
		unix.CloseOnExec(p.Observer)
		trace.Observe(os.NewFile(uintptr(p.Observer), "observer"))
	}
	return nil
}

// joinKeyring: keys are not namespaced, so the caller's session keyring would be the container's. With SELinux it has
// the context of the program, which could not read its own keys otherwise.
func (p *initProcess) joinKeyring() error {
	if p.Process.SELinux != "" {
		if err := lsm.LabelKeys(p.proc, p.Process.SELinux); err != nil {
			return err
		}
		defer func() { _ = lsm.LabelKeys(p.proc, "") }()
	}
	err := trace.Step("keyctl JOIN_SESSION_KEYRING", "the caller's keys are not the container's").Do(func() error {
		// A null name makes an anonymous keyring; x/sys can only pass names.
		_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
		return err
	})
	if err == unix.ENOSYS || err == unix.EDQUOT || err == unix.EPERM {
		return nil // a kernel without keys, or an outer filter that denies them: nothing is shared
	}
	return errs.Wrap("join a new session keyring", err)
}

func (p *initProcess) awaitDevices() error {
	if len(p.NetDevices) == 0 {
		return nil
	}
	return p.talk.await()
}

// setLoopback brings up the one link that a new network namespace has (netdevice(7)).
func (p *initProcess) setLoopback() error {
	if !p.fresh("network") {
		return nil
	}
	err := trace.Step("ioctl SIOCSIFFLAGS", "programs of the container reach each other at 127.0.0.1", "link", "lo", "flags", "IFF_UP").Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		lo, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
	})
	return errs.Wrap("bring up loopback", err)
}

// setTimeOffsets makes the time namespace. Its offsets can be set until a process is in it, which the execve does.
func (p *initProcess) setTimeOffsets() error {
	if !p.fresh("time") {
		return nil
	}
	err := trace.Step("unshare", "clocks since boot of its own, from the execve on", "flags", "CLONE_NEWTIME", "offsets", p.TimeOffsets).
		Do(func() error { return unix.Unshare(unix.CLONE_NEWTIME) })
	// In a user namespace the files of a process that nobody may trace are not its own.
	if err == nil && p.TimeOffsets != "" {
		err = p.talk.send(message{Kind: atClocks}, nil)
		if err == nil {
			err = p.talk.await()
		}
	}
	return errs.Wrap("make time namespace", err)
}

func (p *initProcess) setHostname() error {
	if p.Hostname != "" {
		err := trace.Step("sethostname", "the container's own name", "name", p.Hostname).Do(func() error { return unix.Sethostname([]byte(p.Hostname)) })
		if err != nil {
			return errs.Wrap("set host name", err)
		}
	}
	if p.Domainname == "" {
		return nil
	}
	err := trace.Step("setdomainname", "the container's own domain", "name", p.Domainname).Do(func() error { return unix.Setdomainname([]byte(p.Domainname)) })
	return errs.Wrap("set domain name", err)
}

func (p *initProcess) setSysctls() error {
	for _, name := range sortedKeys(p.Sysctl) {
		if err := p.proc.SetSys(name, p.Sysctl[name], "a kernel parameter of the container's namespace"); err != nil {
			return err
		}
	}
	return nil
}

// setOOMScore: lowering it needs CAP_SYS_RESOURCE; without, it stays, with a note.
func (p *initProcess) setOOMScore() error {
	if p.Process.OOMScoreAdj == nil {
		return nil
	}
	value := strconv.Itoa(*p.Process.OOMScoreAdj)
	err := trace.Step("write", "how soon it is killed when memory is short", "file", "oom_score_adj", "value", value).
		Do(func() error { return p.proc.Write("self/oom_score_adj", value) })
	if errs.Is(err, errs.Permission) && *p.Process.OOMScoreAdj < 0 {
		return nil
	}
	return errs.Wrap("set oom_score_adj", err)
}

// parentHooks stops before the pivot, where the runtime's hooks see the container's mounts, and runs those that are for
// here.
func (p *initProcess) parentHooks() error {
	if p.AskHooks {
		if err := p.talk.send(message{Kind: atHooks}, nil); err != nil {
			return err
		}
		if err := p.talk.await(); err != nil {
			return err
		}
	}
	if p.Hooks == nil || len(p.Hooks.CreateContainer) == 0 {
		return nil
	}
	if err := unix.Fchdir(p.newRoot.FD()); err != nil { // where runc runs them
		return errs.Wrap("run createContainer hooks", err)
	}
	return runHooks(p.Hooks.CreateContainer, "createContainer", p.State, nil)
}

// useTerminal makes the terminal the standard streams and the controlling terminal.
func (p *initProcess) useTerminal() error {
	if p.slave == nil {
		return nil
	}
	err := trace.Step("ioctl TIOCSCTTY", "Ctrl-C and job control work", "fd", 0).Do(func() error {
		for fd := range 3 {
			if err := unix.Dup3(int(p.slave.Fd()), fd, 0); err != nil {
				return err
			}
		}
		return tty.TakeControl(p.slave)
	})
	if err != nil {
		return errs.Wrap("use terminal", err)
	}
	_ = unix.Fchown(0, int(p.Process.UID), -1)
	return nil
}

// setLabels has effect at the execve, and on hooks in the container. It comes before no_new_privs, under which AppArmor
// lets nobody become less confined than they are, and before the filter and the loss of rights, which might deny it.
func (p *initProcess) setLabels() error {
	if err := lsm.ProfileOnExec(p.proc, p.Process.AppArmor); err != nil {
		return err
	}
	return lsm.LabelOnExec(p.proc, p.Process.SELinux)
}

// closeFiles comes before the filter, which may not know the call. What is opened later is closed by the execve anyway.
func (p *initProcess) closeFiles() error { return closeFiles(p.Preserved) }

func (p *initProcess) setNoNewPrivileges() error {
	if !p.Process.NoNewPrivileges {
		return nil
	}
	err := trace.Step("prctl PR_SET_NO_NEW_PRIVS", "set-user-ID programs give nothing any more").
		Do(func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
	return errs.Wrap("set no_new_privs", err)
}

// loadSeccompEarly loads the filter while CAP_SYS_ADMIN is still there, which only no_new_privs makes dispensable; and
// while the runtime is there, to take a listener.
func (p *initProcess) loadSeccompEarly() error {
	if p.seccompLate() {
		return nil
	}
	return p.loadSeccomp()
}

func (p *initProcess) seccompLate() bool {
	return p.Process.NoNewPrivileges && (p.Seccomp == nil || !p.Seccomp.Program.Notify)
}

func (p *initProcess) loadSeccomp() error {
	if p.Seccomp == nil {
		return nil
	}
	var fd int
	err := trace.Step("seccomp SET_MODE_FILTER", "system calls that a container has no business with are refused", "instructions", len(p.Seccomp.Program.Code)/8).
		Do(func() (err error) {
			fd, err = p.Seccomp.Program.Load()
			return err
		})
	if err != nil || fd < 0 {
		return err
	}
	defer unix.Close(fd)
	return p.talk.sendFD(message{Kind: listener}, fd)
}

// execute is the end: the program is found, the runtime told, the go awaited.
func (p *initProcess) execute() error {
	file, err := p.Process.lookPath()
	if err != nil {
		return err
	}
	trace.Step("execve", "from here on it is the container's program, and no code of ours", "file", file, "args", fmt.Sprint(len(p.Process.Args))).Note()
	if err := p.talk.send(message{Kind: ready, Steps: trace.Pack(trace.Records())}, p.console); err != nil {
		return err
	}
	if p.console != nil {
		p.console.Close()
	}
	trace.Reset()
	if err := p.awaitStart(); err != nil {
		return err
	}
	if p.Hooks != nil {
		if err := runHooks(p.Hooks.StartContainer, "startContainer", p.State, p.Process.Env); err != nil {
			return err
		}
	}
	if p.seccompLate() {
		if err := p.loadSeccomp(); err != nil {
			return err
		}
	}
	if p.Process.Reaper {
		return p.reap(file)
	}
	if err := p.limitPids(); err != nil {
		return err
	}
	return p.Process.exec(file)
}

// limitPids sets a limit of processes that is too low for this program. From here on it makes no thread.
func (p *initProcess) limitPids() error {
	if p.PidsLimit == 0 {
		return nil
	}
	limit, _ := p.lowPidsLimit()
	_, err := unix.Write(p.PidsLimit, strconv.AppendInt(nil, max(1, limit), 10))
	return errs.Wrap("limit processes", err)
}

// awaitStart waits for the go: from the runtime that made the container, or from whoever writes to the FIFO.
func (p *initProcess) awaitStart() error {
	if p.FIFO == 0 {
		return p.talk.await()
	}
	// The runtime that made the container is to see the end of the channel and leave.
	p.talk.close()
	return channel(p.FIFO).await()
}
