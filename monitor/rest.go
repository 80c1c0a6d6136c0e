//go:build linux

package monitor

import (
	"encoding/json"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/monitor/logs"
)

// Most containers are idle most of the time, and each has a monitor. What a start, or an exec, has needed of memory does
// not come back by a collection: spans with one live object each, stacks that have grown, caches of encoding/json. So a
// monitor to which nothing has come for a while executes its program once more (execve(2)): it keeps its pid, its
// children and the descriptors that it wants, and begins with an empty heap. Asleep it only copies output, answers for
// names, and waits for a request or the end of the program; then it wakes: it reads what it was told from its folder.

// idle is how long nothing comes before a monitor rests.
const idle = 3 * time.Second

// handoffNotice is the variable that tells the fresh image where the handoff is.
const handoffNotice = "BERTH_HANDOFF="

// handoff is what a resting monitor knows. Descriptors are numbers; -1 is none.
type handoff struct {
	ID, Dir  string
	Log      logs.Config
	Partial  map[byte][]byte `json:",omitempty"` // output that is not yet a line
	Names    *Names          `json:",omitempty"`
	PidFD    int
	Control  int
	Terminal int
	Stdin    int
	Outputs  []handedOutput
	Held     []int
}

type handedOutput struct {
	Kind byte
	FD   int
}

// restWhenIdle lets the monitor rest when nothing has come for a while.
func (m *monitor) restWhenIdle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rest == nil {
		m.rest = time.AfterFunc(idle, m.tryRest)
		return
	}
	m.rest.Reset(idle)
}

// enter counts somebody who wants something from the monitor, which does not rest until everybody has left.
func (m *monitor) enter() {
	m.mu.Lock()
	m.busy++
	m.mu.Unlock()
}

func (m *monitor) left() {
	m.mu.Lock()
	m.busy--
	m.mu.Unlock()
	m.restWhenIdle()
}

// tryRest does not return when the monitor rests.
func (m *monitor) tryRest() {
	m.accepting.Lock()
	defer m.accepting.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.life
	if m.busy > 0 || l == nil || l.c == nil || l.over || m.stopped || m.gone {
		return
	}
	if m.log.Busy() {
		m.rest.Reset(idle)
		return
	}
	if m.Health != nil || m.Timeout > 0 { // there is always something to do
		debug.FreeOSMemory()
		return
	}
	for _, o := range l.io.outputs { // nothing must lie between a pipe and the log
		_ = o.from.SetReadDeadline(time.Unix(1, 0))
	}
	l.io.copied.Wait()
	_ = m.becomeFresh(l)
	for _, o := range l.io.outputs {
		_ = o.from.SetReadDeadline(time.Time{})
	}
	m.copyOutput()
}

// becomeFresh executes the program once more. It returns only if that cannot be.
func (m *monitor) becomeFresh(l *life) error {
	h := handoff{ID: m.ID, Dir: m.Dir, Log: m.Log, Names: m.Names, PidFD: number(l.c.PidFD()), Control: number(m.control), Terminal: number(l.io.tty), Stdin: -1}
	if l.io.tty == nil {
		h.Stdin = number(l.io.stdin)
		for _, o := range l.io.outputs {
			h.Outputs = append(h.Outputs, handedOutput{o.kind, number(o.from)})
		}
	}
	for _, f := range m.held {
		h.Held = append(h.Held, number(f))
	}
	h.Partial = m.log.Pending()
	b, err := json.Marshal(&h)
	if err != nil {
		return err
	}
	memory, err := unix.MemfdCreate("berth-handoff", 0)
	if err != nil {
		return err
	}
	defer unix.Close(memory)
	if _, err := unix.Pwrite(memory, b, 0); err != nil {
		return err
	}
	kept := append([]int{lockFD, h.PidFD, h.Control, h.Terminal, h.Stdin}, h.Held...)
	for _, o := range h.Outputs {
		kept = append(kept, o.FD)
	}
	for _, fd := range kept {
		if fd >= 0 {
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		}
	}
	signal.Ignore(survived...) // what is ignored stays so over execve; what is caught does not
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, handoffNotice) })
	err = unix.Exec("/proc/self/exe", []string{"berth-runtime", "monitor"}, append(env, handoffNotice+strconv.Itoa(memory)))
	catchSignals()
	for _, fd := range kept {
		unix.CloseOnExec(fd)
	}
	return err
}

func number(f *os.File) int {
	if f == nil {
		return -1
	}
	// Not Fd(), which would make it blocking for good.
	fd := -1
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(n uintptr) { fd = int(n) })
	}
	return fd
}

func file(fd int, name string) *os.File {
	if fd < 0 {
		return nil
	}
	return os.NewFile(uintptr(fd), name)
}

// rested is the begin of the fresh image, if this is one.
func rested() (*handoff, bool) {
	v := os.Getenv(strings.TrimSuffix(handoffNotice, "="))
	if v == "" {
		return nil, false
	}
	fd, err := strconv.Atoi(v)
	if err != nil {
		return nil, false
	}
	defer unix.Close(fd)
	b, err := os.ReadFile("/proc/self/fd/" + strconv.Itoa(fd))
	h := new(handoff)
	return h, err == nil && json.Unmarshal(b, h) == nil
}

// sleep is what a fresh image does until something comes.
func sleep(h *handoff) int {
	debug.SetGCPercent(-1) // it makes no garbage to speak of; should it, there is a limit
	debug.SetMemoryLimit(8 << 20)
	m := newMonitor()
	m.ID, m.Dir, m.Log, m.Names = h.ID, h.Dir, h.Log, h.Names
	var err error
	if m.log, err = logs.Open(m.Log); err != nil {
		return 1
	}
	m.log.Resume(h.Partial)
	m.control = file(h.Control, "control socket")
	for _, fd := range h.Held {
		m.held = append(m.held, file(fd, "held"))
	}
	l := &life{ended: make(chan struct{}), io: &stdio{}, asleep: file(h.PidFD, "pidfd")}
	if h.Terminal >= 0 {
		l.io.tty = file(h.Terminal, "terminal")
		l.io.stdin = l.io.tty
		l.io.outputs = []output{{frameStdout, l.io.tty}}
	} else {
		l.io.stdin = file(h.Stdin, "our end of a pipe")
		for _, o := range h.Outputs {
			l.io.outputs = append(l.io.outputs, output{o.Kind, file(o.FD, "our end of a pipe")})
		}
	}
	m.life = l
	_ = m.serveNames()
	m.copyOutput()
	go m.serve()
	m.live(nil)
	return 0
}

// wake reads what the monitor has known before it rested.
func (m *monitor) wake() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.life
	if l == nil || l.asleep == nil {
		return nil
	}
	cfg, err := ReadConfig(m.Dir)
	if err != nil {
		return errs.Wrap("wake monitor", err)
	}
	c, err := container.Open(cfg.Runtime, cfg.ID)
	if err != nil {
		return err
	}
	if err := c.Adopt(); err != nil {
		return err
	}
	status := LastStatus(m.Dir)
	if status == nil {
		return errs.Text(errs.Internal, "wake monitor: its status cannot be read")
	}
	debug.SetGCPercent(collectAt)
	l.c, l.asleep, l.pipes = c, nil, status.Pipes
	l.exit.StartedAt = status.StartedAt
	m.Config, m.status = *cfg, *status
	return nil
}

// awaitProgram waits for the end of the program without reaping it, so that a monitor that rests meanwhile loses
// nothing, and keeps it from resting after.
func (l *life) awaitProgram() {
	f := l.asleep
	if l.c != nil {
		f = l.c.PidFD()
	}
	for f != nil {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}, -1); err != unix.EINTR {
			break
		}
	}
	runtime.KeepAlive(f) // one that wakes the monitor lets go of it
}
