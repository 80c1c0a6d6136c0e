//go:build linux

package ocicli

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/errs"
)

// words is an option that may be repeated.
type words []string

func (w *words) String() string     { return "" }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }

// execFlags are those of exec.
type execFlags struct {
	process, consoleSocket, pidFile, pidfdSocket, user, cwd, apparmor, label string
	env, caps, groups, cgroup                                                words
	detach, tty, noNewPrivs, ignorePaused                                    bool
	preserve                                                                 int
}

func (f *execFlags) register(c *call) {
	c.StringVar(&f.process, "process", "", "file with the process as JSON")
	c.StringVar(&f.process, "p", "", "file with the process as JSON")
	c.StringVar(&f.consoleSocket, "console-socket", "", "Unix socket that gets the terminal's master")
	c.StringVar(&f.pidFile, "pid-file", "", "file for the pid of the process")
	c.StringVar(&f.pidfdSocket, "pidfd-socket", "", "Unix socket that gets a descriptor of the process")
	c.StringVar(&f.user, "user", "", "UID[:GID]")
	c.StringVar(&f.user, "u", "", "UID[:GID]")
	c.StringVar(&f.cwd, "cwd", "", "working directory")
	c.Var(&f.cgroup, "cgroup", "control group below the container's: PATH, or CONTROLLER[,CONTROLLER]:PATH, repeatable")
	c.StringVar(&f.apparmor, "apparmor", "", "AppArmor profile")
	c.StringVar(&f.label, "process-label", "", "SELinux label")
	c.Var(&f.env, "env", "variable, repeatable")
	c.Var(&f.env, "e", "variable, repeatable")
	c.Var(&f.caps, "cap", "further capability, repeatable")
	c.Var(&f.caps, "c", "further capability, repeatable")
	c.Var(&f.groups, "additional-gids", "further group, repeatable")
	c.Var(&f.groups, "g", "further group, repeatable")
	c.BoolVar(&f.detach, "detach", false, "do not wait for the process")
	c.BoolVar(&f.detach, "d", false, "do not wait for the process")
	c.BoolVar(&f.tty, "tty", false, "with a terminal")
	c.BoolVar(&f.tty, "t", false, "with a terminal")
	c.BoolVar(&f.noNewPrivs, "no-new-privs", false, "set-user-ID programs give nothing")
	c.BoolVar(&f.ignorePaused, "ignore-paused", false, "wait until a paused container is resumed")
	c.IntVar(&f.preserve, "preserve-fds", 0, "so many descriptors from 3 on are the program's")
}

// load makes the process of a call: the container's own, with other arguments, or a file's.
func (f *execFlags) load(ct *container.Container, args []string) (*container.Process, error) {
	var own specs.Process
	if f.process != "" {
		b, err := os.ReadFile(f.process)
		if err == nil {
			err = json.Unmarshal(b, &own)
		}
		if err != nil {
			return nil, errs.New(errs.Invalid, "read process", err)
		}
		return container.NewProcess(&own)
	}
	if len(args) == 0 {
		return nil, errs.Text(errs.Invalid, "process args cannot be empty")
	}
	spec, err := bundleProcess(ct.Bundle)
	if err != nil {
		return nil, err
	}
	spec.Args, spec.Terminal = args, f.tty
	spec.Env = append(spec.Env, f.env...)
	spec.NoNewPrivileges = spec.NoNewPrivileges || f.noNewPrivs
	if f.cwd != "" {
		spec.Cwd = f.cwd
	}
	if f.apparmor != "" {
		spec.ApparmorProfile = f.apparmor
	}
	if f.label != "" {
		spec.SelinuxLabel = f.label
	}
	for _, g := range f.groups {
		n, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return nil, errs.Text(errs.Invalid, "invalid group "+g)
		}
		spec.User.AdditionalGids = append(spec.User.AdditionalGids, uint32(n))
	}
	if f.user != "" {
		uid, gid, both := strings.Cut(f.user, ":")
		u, err := strconv.ParseUint(uid, 10, 32)
		spec.User.UID = uint32(u)
		if both && err == nil {
			var g uint64
			g, err = strconv.ParseUint(gid, 10, 32)
			spec.User.GID = uint32(g)
		}
		if err != nil {
			return nil, errs.Text(errs.Invalid, "invalid user "+f.user+": want UID[:GID]")
		}
	}
	if len(f.caps) > 0 {
		c := spec.Capabilities
		if c == nil {
			c = &specs.LinuxCapabilities{}
			spec.Capabilities = c
		}
		for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Permitted} {
			*set = append(*set, f.caps...)
		}
		if len(c.Inheritable) > 0 { // ambient ones need them there, too
			c.Ambient = append(c.Ambient, f.caps...)
		}
	}
	return container.NewProcess(spec)
}

// bundleProcess is the process of a container's specification.
func bundleProcess(bundle string) (*specs.Process, error) {
	b, err := os.ReadFile(bundle + "/config.json")
	var spec specs.Spec
	if err == nil {
		err = json.Unmarshal(b, &spec)
	}
	if err != nil || spec.Process == nil {
		return nil, errs.New(errs.Invalid, "read specification", fmt.Errorf("%w", errors.Join(err, errors.New("it has to tell the process"))))
	}
	return spec.Process, nil
}

// exec tells a failure of its own from one of the program: it is 255, as runc's.
func (p *program) exec(c *call) error {
	err := p.execProgram(c)
	var status exitStatus
	if err == nil || errors.As(err, &status) || errors.Is(err, flag.ErrHelp) {
		return err
	}
	p.complain(err)
	return exitStatus(255)
}

func (p *program) execProgram(c *call) error {
	f := &execFlags{}
	f.register(c)
	if err := p.parse(c, 1, -1); err != nil {
		return err
	}
	ct, err := p.open(c)
	if err != nil {
		return err
	}
	process, err := f.load(ct, c.Args()[1:])
	if err != nil {
		return err
	}
	p.warn(process.Ignored)
	if process.Terminal && f.detach && f.consoleSocket == "" {
		return errs.Text(errs.Invalid, "cannot allocate tty if runc will detach without setting console socket")
	}
	signals := make(chan os.Signal, 128)
	if !f.detach {
		notify(signals)
	}
	e, err := ct.Exec(container.ExecOptions{Process: process, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, ConsoleSocket: f.consoleSocket,
		PreserveFDs: f.preserve, PidFile: f.pidFile, PidfdSocket: f.pidfdSocket, IgnorePaused: f.ignorePaused, Cgroup: f.cgroup})
	if err != nil {
		return err
	}
	defer e.Close()
	if f.detach {
		return nil
	}
	t, err := p.useTerminal(e.Console())
	if err != nil {
		t.end(0)
		return err
	}
	go forwardTo(func(sig unix.Signal) { _ = unix.PidfdSendSignal(int(e.PidFD().Fd()), sig, nil, 0) }, t, signals)
	status, err := e.Wait()
	t.end(time.Second)
	if err != nil {
		return err
	}
	if code := exitCode(status); code != 0 {
		return exitStatus(code)
	}
	return nil
}
