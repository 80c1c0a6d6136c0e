//go:build linux

package ocicli

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/linux/tty"
)

// createFlags are those of create and run.
type createFlags struct {
	bundle, consoleSocket, pidFile, pidfdSocket string
	noPivot, noNewKeyring, keep, det            bool
	preserve                                    int
}

func (f *createFlags) register(c *call, run bool) {
	c.StringVar(&f.bundle, "bundle", ".", "folder of the bundle")
	c.StringVar(&f.bundle, "b", ".", "folder of the bundle")
	c.StringVar(&f.consoleSocket, "console-socket", "", "Unix socket that gets the terminal's master")
	c.StringVar(&f.pidFile, "pid-file", "", "file for the pid of the container's first process")
	c.StringVar(&f.pidfdSocket, "pidfd-socket", "", "Unix socket that gets a descriptor of the container's first process")
	c.BoolVar(&f.noPivot, "no-pivot", false, "move the root instead of pivot_root")
	c.BoolVar(&f.noNewKeyring, "no-new-keyring", false, "keep the caller's session keyring (ignored: it would be shared)")
	c.IntVar(&f.preserve, "preserve-fds", 0, "so many descriptors from 3 on are the program's")
	if run {
		c.BoolVar(&f.det, "detach", false, "do not wait for the program")
		c.BoolVar(&f.det, "d", false, "do not wait for the program")
		c.BoolVar(&f.keep, "keep", false, "do not delete the container when its program has ended")
	}
}

// make makes the container of a call.
func (p *program) make(c *call, f *createFlags, detached bool) (*container.Container, error) {
	if err := container.CheckID(c.Arg(0)); err != nil {
		return nil, err
	}
	program := container.Seal()
	bundle, plan, err := loadPlan(f.bundle)
	if err != nil {
		return nil, err
	}
	if plan.Process != nil {
		p.warn(plan.Process.Ignored)
	}
	listen := listenFDs(plan)
	o := container.CreateOptions{Root: p.root, ID: c.Arg(0), Bundle: bundle, Plan: plan, Program: program, ConsoleSocket: f.consoleSocket, PreserveFDs: f.preserve + listen,
		Detached: detached, NoPivot: f.noPivot, PidFile: f.pidFile, PidfdSocket: f.pidfdSocket, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Systemd: p.systemdCgroup, Rootless: p.isRootless()}
	return container.Create(o)
}

// isRootless reports whether an ordinary user runs us, as itself or as the root of a user namespace of its own.
func (p *program) isRootless() bool {
	if yes, err := strconv.ParseBool(p.rootless); err == nil {
		return yes
	}
	b, err := os.ReadFile("/proc/self/uid_map")
	return os.Geteuid() != 0 || err == nil && !slices.Equal(strings.Fields(string(b)), []string{"0", "0", "4294967295"})
}

// listenFDs hands on the sockets of a service manager (sd_listen_fds(3)).
func listenFDs(plan *container.Plan) int {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n <= 0 || plan.Process == nil {
		return 0
	}
	plan.Process.Env = append(plan.Process.Env, "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_PID=1")
	if names := os.Getenv("LISTEN_FDNAMES"); names != "" {
		plan.Process.Env = append(plan.Process.Env, "LISTEN_FDNAMES="+names)
	}
	return n
}

func (p *program) create(c *call) error {
	f := &createFlags{}
	f.register(c, false)
	if err := p.parse(c, 1, 1); err != nil {
		return err
	}
	_, err := p.make(c, f, true)
	return err
}

func (p *program) start(c *call) error {
	if err := p.parse(c, 1, 1); err != nil {
		return err
	}
	ct, err := p.open(c)
	if err != nil {
		return err
	}
	return ct.Start()
}

// runContainer is create, start, wait, delete.
func (p *program) runContainer(c *call) error {
	f := &createFlags{}
	f.register(c, true)
	if err := p.parse(c, 1, 1); err != nil {
		return err
	}
	signals := make(chan os.Signal, 128)
	if !f.det {
		notify(signals) // before there is somebody to send them to, none must be lost
	}
	ct, err := p.make(c, f, false)
	if err != nil {
		return err
	}
	terminal, err := p.useTerminal(ct.Console())
	if err == nil {
		err = ct.Start()
	}
	if err != nil {
		terminal.end(0)
		_ = ct.Delete(true)
		return err
	}
	if f.det {
		return nil
	}
	go forwardTo(func(sig unix.Signal) { _ = ct.Kill(sig, false) }, terminal, signals)
	status, err := ct.Wait()
	terminal.end(time.Second)
	if !f.keep {
		if derr := ct.Delete(true); err == nil {
			err = derr
		}
		p.warn(ct.Warnings)
	}
	if err != nil {
		return err
	}
	if code := exitCode(status); code != 0 {
		return exitStatus(code)
	}
	return nil
}

// notify takes the signals that people and programs send, and changes of the window's size. Each costs something.
func notify(signals chan<- os.Signal) {
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGTERM, unix.SIGCONT, unix.SIGWINCH)
}

func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// forwardTo sends the program what this process is sent.
func forwardTo(send func(unix.Signal), t *terminal, signals <-chan os.Signal) {
	for s := range signals {
		switch sig := s.(unix.Signal); sig {
		case unix.SIGWINCH:
			t.resize()
		default:
			send(sig)
		}
	}
}

// terminal connects the caller's terminal with the container's.
type terminal struct {
	master *os.File
	state  *tty.State
	copied chan struct{}
}

// useTerminal begins to copy between the caller's streams and a container's terminal, if it has one.
func (p *program) useTerminal(master *os.File) (*terminal, error) {
	if master == nil {
		return nil, nil
	}
	t := &terminal{master: master, copied: make(chan struct{})}
	t.resize()
	// The caller's terminal, not the container's, makes new lines of newlines: none come into a file or pipe (as runc).
	err := tty.SetOutput(master, 0, unix.ONLCR)
	if err == nil && tty.IsTerminal(os.Stdin) {
		if t.state, err = tty.MakeRaw(os.Stdin); err == nil {
			err = tty.SetOutput(os.Stdin, unix.OPOST, 0)
		}
	}
	if err != nil {
		return t, fmt.Errorf("set terminal: %w", err)
	}
	go func() { _, _ = io.Copy(master, os.Stdin) }()
	go func() {
		_, _ = io.Copy(os.Stdout, master) // ends with EIO when no process has the other end
		close(t.copied)
	}()
	return t, nil
}

func (t *terminal) resize() {
	if t == nil {
		return
	}
	if w, h, err := tty.GetSize(os.Stdin); err == nil {
		_ = tty.SetSize(t.master, w, h)
	}
}

// end waits for the last output, no longer than patience, and gives the caller its terminal back.
func (t *terminal) end(patience time.Duration) {
	if t == nil {
		return
	}
	select {
	case <-t.copied:
	case <-time.After(patience):
	}
	_ = t.state.Restore()
}
