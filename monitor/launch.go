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
	connFD     = 3
	lockFD     = 4 // the container's lock, held as long as the monitor lives
	observerFD = 5 // where steps are shown as they happen, if the environment says so
)

const (
	stderrFile     = "monitor.err"
	observerNotice = "BERTH_OBSERVER=1"
)

// Starting is the process of a monitor that does not know its container yet.
type Starting struct {
	conn *Conn
	pid  int
}

// Launch starts the monitor's process of the container whose running folder is dir and whose lock is held. The process
// makes itself ready while its caller finds out what it has to do; then [Starting.Begin] tells it, or [Starting.Cancel]
// ends it.
func Launch(dir string, lock *os.File) (*Starting, error) {
	s, err := launch(dir, lock)
	return s, errs.Wrap("start monitor", err)
}

func launch(dir string, lock *os.File) (*Starting, error) {
	program, err := program()
	if err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "connection of the monitor")
	defer theirs.Close()
	conn, err := newConn(fds[0])
	if err != nil {
		return nil, err
	}
	s := &Starting{conn: conn}
	err = trace.Step("fork+exec", "a process that stays with the container; this one may end", "program", program, "args", "monitor", "flags", "setsid").
		Do(func() (err error) {
			s.pid, err = spawn(program, dir, theirs, lock)
			return err
		})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// Begin tells the monitor what to do; r says what its caller wants to be attached to. The monitor keeps the held files
// open as long as it lives: sockets that hold its ports. What becomes of the container is the reply, for which
// [Conn.Reply] waits.
func (s *Starting) Begin(cfg *Config, r Request, held []*os.File) (*Conn, error) {
	cfg.Steps = trace.Pack(trace.Records())
	payload, err := json.Marshal(first{cfg, r})
	if err == nil {
		err = s.conn.sendFiles(held)
	}
	if err == nil {
		err = s.conn.sendFrame(frameRequest, append(frame(0), payload...))
	}
	if err != nil {
		s.Cancel()
		return nil, errs.Wrap("start monitor", err)
	}
	return s.conn, nil
}

// Cancel ends the process, which has done nothing yet.
func (s *Starting) Cancel() {
	s.conn.Close()
	_ = unix.Kill(s.pid, unix.SIGKILL)
	_, _ = unix.Wait4(s.pid, nil, 0, nil)
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

func spawn(program, dir string, conn, lock *os.File) (pid int, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	stderr, err := os.OpenFile(filepath.Join(dir, stderrFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer stderr.Close()
	files := []uintptr{null.Fd(), null.Fd(), stderr.Fd(), conn.Fd(), lock.Fd()}
	env := []string{"GOMAXPROCS=1"} // each further one costs memory, and it is idle most of the time
	if observer := trace.Observer(); observer != nil {
		files, env = append(files, observer.Fd()), append(env, observerNotice)
	}
	for _, name := range []string{"BERTH_FAULT", "GODEBUG", "PATH", "HOME"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return syscall.ForkExec(program, []string{"berth-runtime", "monitor"}, &syscall.ProcAttr{
		Dir: "/", Env: env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
}

// first is what the engine sends.
type first struct {
	Config  *Config `json:"config"`
	Request Request `json:"request"`
}
