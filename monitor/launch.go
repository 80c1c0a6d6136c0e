//go:build linux

package monitor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Descriptors of a monitor: standard error is a file beside its socket, for what the Go runtime says when it dies.
const (
	connFD  = 3
	heldFDs = 4 // and on: kept open as long as the monitor lives
)

const stderrFile = "monitor.err"

// Launch starts the monitor of a container and tells it what to do; r says what its caller wants to be attached to.
// The monitor keeps the held files open as long as it lives: the container's lock, sockets that hold its ports.
// What becomes of the container is the reply, for which [Conn.Reply] waits.
func Launch(cfg *Config, r Request, held ...*os.File) (*Conn, error) {
	program, err := program()
	if err != nil {
		return nil, errs.Wrap("start monitor", err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errs.Wrap("start monitor", os.NewSyscallError("socketpair", err))
	}
	theirs := os.NewFile(uintptr(fds[1]), "connection of the monitor")
	defer theirs.Close()
	conn, err := newConn(fds[0])
	if err != nil {
		return nil, errs.Wrap("start monitor", err)
	}
	cfg.Held = len(held)
	if observer := trace.Observer(); observer != nil {
		cfg.Observer = heldFDs + len(held)
		held = append(held, observer)
	}
	err = trace.Step("fork+exec", "a process that stays with the container; this one may end", "program", program, "args", "monitor", "flags", "setsid").
		Do(func() error { return spawn(program, cfg, theirs, held) })
	if err == nil {
		// Its other end is open here until the process has it, so that it waits there if the process is slow.
		cfg.Steps = trace.Records()
		err = conn.sendConfig(cfg, r)
	}
	if err != nil {
		conn.Close()
		return nil, errs.Wrap("start monitor", err)
	}
	return conn, nil
}

// program is berth-runtime beside this program: it is small. Without one this program plays that part.
func program() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), "berth-runtime")
	if unix.Access(beside, unix.X_OK) == nil {
		return beside, nil
	}
	return "/proc/self/exe", nil
}

func spawn(program string, cfg *Config, conn *os.File, held []*os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	stderr, err := os.OpenFile(filepath.Join(cfg.Dir, stderrFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer stderr.Close()
	files := []uintptr{null.Fd(), null.Fd(), stderr.Fd(), conn.Fd()}
	for _, f := range held {
		files = append(files, f.Fd())
	}
	env := []string{"GOMAXPROCS=1"} // each further one costs memory, and it is idle most of the time
	for _, name := range []string{"BERTH_FAULT", "GODEBUG", "PATH", "HOME"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	_, err = syscall.ForkExec(program, []string{"berth-runtime", "monitor"}, &syscall.ProcAttr{
		Dir: "/", Env: env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	return err
}

// first is what the engine sends.
type first struct {
	Config  *Config `json:"config"`
	Request Request `json:"request"`
}

func (c *Conn) sendConfig(cfg *Config, r Request) error {
	payload, err := json.Marshal(first{cfg, r})
	if err != nil {
		return err
	}
	return c.sendFrame(frameRequest, append(frame(0), payload...))
}
