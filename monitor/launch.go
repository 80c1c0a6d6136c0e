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
	stderrFD   = 2
	connFD     = 3
	lockFD     = 4 // the container's lock, from the first message on as long as the monitor lives
	observerFD = 5 // where steps are shown as they happen, if the environment says so
)

const (
	stderrFile     = "monitor.err"
	observerNotice = "BERTH_OBSERVER=1"
)

// Starting is the process of a monitor that does not know its container yet.
type Starting struct {
	program string
	made    chan struct{} // closed when the process is there, or err
	conn    *Conn
	pid     int
	err     error
}

// Launch begins to start a monitor's process. That becomes ready while its caller finds out what it has to do:
// [Starting.Wait] says whether it is there, [Starting.Mount] and [Starting.Begin] tell it its part, and
// [Starting.Cancel] ends it, as does the end of its caller.
func Launch() *Starting {
	s := &Starting{made: make(chan struct{})}
	s.program, s.err = program()
	go func() {
		if s.err == nil {
			s.err = s.launch()
		}
		close(s.made)
	}()
	return s
}

func (s *Starting) launch() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "connection of the monitor")
	defer theirs.Close()
	if s.conn, err = newConn(fds[0]); err != nil {
		return err
	}
	if s.pid, err = spawn(s.program, theirs); err != nil {
		s.conn.Close()
	}
	return err
}

// Wait waits for the process. The time of the step is what is left to wait.
func (s *Starting) Wait() error {
	return errs.Wrap("start monitor", trace.Step("fork+exec", "a process that stays with the container; this one may end",
		"program", s.program, "args", "monitor", "flags", "setsid").Do(func() error {
		<-s.made
		return s.err
	}))
}

// Mount lets the monitor make the container's root while its caller finds out the rest. It is for a root without id maps
// and without an SELinux label.
func (s *Starting) Mount(root *Overlay) error {
	return errs.Wrap("start monitor", s.conn.sendJSON(frameRoot, root))
}

// Begin tells the monitor what to do; r says what its caller wants to be attached to. The monitor keeps the container's
// lock and the held files, sockets that hold its ports, open as long as it lives. What becomes of the container is the
// reply, for which [Conn.Reply] waits.
func (s *Starting) Begin(cfg *Config, r Request, lock *os.File, held []*os.File) (*Conn, error) {
	cfg.Steps = trace.Pack(trace.Records())
	payload, err := json.Marshal(first{cfg, r})
	if err == nil {
		err = s.conn.sendFiles(append([]*os.File{lock}, held...))
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
	<-s.made
	if s.err != nil {
		return
	}
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

func spawn(program string, conn *os.File) (pid int, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	files := []uintptr{null.Fd(), null.Fd(), stderrFD: null.Fd(), connFD: conn.Fd(), lockFD: null.Fd()}
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

// takePlace gives the process what is its container's: the lock, and a file for what is said when it dies.
func takePlace(dir string, lock *os.File) error {
	defer lock.Close()
	if err := unix.Dup3(int(lock.Fd()), lockFD, unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	stderr, err := os.OpenFile(filepath.Join(dir, stderrFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer stderr.Close()
	return os.NewSyscallError("dup3", unix.Dup3(int(stderr.Fd()), stderrFD, 0))
}

// first is what the engine sends.
type first struct {
	Config  *Config `json:"config"`
	Request Request `json:"request"`
}
