//go:build linux

package monitor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/tty"
)

// listen makes the socket where everybody with access to the folder, which is root, can ask for something.
func (m *monitor) listen() error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return errs.Wrap("listen for requests", os.NewSyscallError("socket", err))
	}
	m.control = os.NewFile(uintptr(fd), "control socket")
	_ = os.Remove(filepath.Join(m.Dir, controlFile)) // of a monitor that was killed
	addr, done, err := throughFolder(m.Dir)
	if err == nil {
		err = unix.Bind(fd, addr)
		done()
	}
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	return errs.Wrap("listen for requests", err)
}

// serve answers requests until the socket is closed.
func (m *monitor) serve() {
	raw, err := m.control.SyscallConn()
	if err != nil {
		return
	}
	for {
		fd := -1
		err := raw.Read(func(listener uintptr) bool {
			m.accepting.Lock()
			defer m.accepting.Unlock()
			var err error
			if fd, _, err = unix.Accept4(int(listener), unix.SOCK_CLOEXEC); err == nil {
				m.enter()
			}
			return err != unix.EAGAIN
		})
		if err != nil {
			return
		}
		if fd < 0 {
			continue
		}
		go func() {
			defer m.left()
			if conn, err := newConn(fd); err == nil {
				m.answer(conn)
			}
		}()
	}
}

// answer serves one connection.
func (m *monitor) answer(conn *Conn) {
	files, payload, err := conn.receiveFirst(func([]byte) {})
	var r Request
	if err != nil || conn.header[0] != frameRequest || json.Unmarshal(payload, &r) != nil {
		closeAll(files)
		conn.Close()
		return
	}
	if err := m.wake(); err != nil {
		closeAll(files)
		conn.close(err)
		return
	}
	if r.Op == "hold" {
		m.hold(files, r.Release)
		conn.close(nil)
		return
	}
	closeAll(files)
	switch r.Op {
	case "attach", "wait":
		if conn.sendJSON(frameReply, Reply{}) != nil || !m.hub.add(conn, r) {
			conn.Close() // also when the end has been told already: whoever asked finds it written down
			return
		}
		m.attend(conn, r)
		return
	case "exec":
		m.exec(conn, r)
		return
	}
	conn.close(m.do(r))
}

// close ends a connection whose request is over, with its reply.
func (c *Conn) close(err error) {
	_ = c.sendJSON(frameReply, Reply{Error: errs.ToWire(err)})
	c.Close()
}

var errNotRunning = errs.Text(errs.Conflict, "container is not running")

func (m *monitor) current() (*life, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life == nil {
		return nil, errNotRunning
	}
	return m.life, nil
}

func (m *monitor) currentIO() *stdio {
	if l, err := m.current(); err == nil {
		return l.io
	}
	return nil
}

// attend takes what an attached client sends, until it leaves.
func (m *monitor) attend(conn *Conn, r Request) {
	conn.readInput(r, m.StdinOnce, m.currentIO)
	m.hub.drop(conn)
	conn.Close()
}

// do makes what is over with its reply.
func (m *monitor) do(r Request) error {
	if r.Op == "stop" {
		return m.stop(r.Signal, r.Timeout, cmp.Or(r.By, "stop"))
	}
	m.mu.Lock()
	between := m.life == nil && m.status.Phase == Restarting
	m.mu.Unlock()
	l, err := m.current()
	if err != nil && !(r.Op == "signal" && between) {
		return err
	}
	switch r.Op {
	case "signal":
		return m.signal(l, unix.Signal(r.Signal))
	case "names":
		if m.names != nil {
			m.names.Reach()
		}
		return nil
	case "pause":
		return m.setPhase(l.c.Pause(), Paused, "pause")
	case "resume":
		return m.setPhase(l.c.Resume(), Running, "unpause")
	case "resize":
		if l.io.tty == nil || r.Size == nil {
			return errs.Text(errs.Conflict, "the container has no terminal")
		}
		m.tell("resize", "height", strconv.Itoa(int(r.Size.Height)), "width", strconv.Itoa(int(r.Size.Width)))
		return tty.SetSize(l.io.tty, r.Size.Width, r.Size.Height)
	case "update":
		if r.Journal != nil {
			m.useJournal(r.Journal)
		}
		m.mu.Lock()
		if r.Restart != nil {
			m.Restart = *r.Restart
		}
		if r.Plan != nil {
			m.Plan = r.Plan
		}
		if r.Restart != nil || r.Journal != nil || r.Plan != nil {
			m.keepConfig()
		}
		m.mu.Unlock()
		if r.Resources == nil {
			return nil
		}
		if err := l.c.Update(r.Resources); err != nil {
			return err
		}
		m.mu.Lock()
		m.Plan.Resources = l.c.Made.Resources // for the next life, and for a monitor that takes over
		m.keepConfig()
		m.mu.Unlock()
		return nil
	}
	return errs.New(errs.Invalid, "serve request", fmt.Errorf("unknown operation %q", r.Op))
}

func (m *monitor) setPhase(err error, phase, action string) error {
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Phase = phase
	m.tell(action)
	return m.publish()
}

// signal is `kill`. A signal that is to end the container also ends its restarts, as Docker's does.
func (m *monitor) signal(l *life, sig unix.Signal) error {
	if sig == unix.SIGKILL || int(sig) == m.StopSignal {
		m.askForEnd("kill")
	}
	if l == nil {
		return nil
	}
	m.tellKill(sig)
	if sig != unix.SIGKILL {
		return l.c.Kill(sig, false)
	}
	err := m.sigkill(l)
	_ = l.c.Group().Thaw() // version 1: what is frozen does not even die
	if err == nil {
		<-l.ended
	}
	return err
}

// sigkill ends the program, which is then known to have ended so.
func (m *monitor) sigkill(l *life) error {
	m.mu.Lock()
	l.killed = true
	m.mu.Unlock()
	return l.c.Kill(unix.SIGKILL, false)
}

func (m *monitor) askForEnd(by string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.stopped {
		m.stopped, m.by = true, by
		close(m.ending)
	}
}

// stop asks the program to end, waits, and ends it. It returns when the container is gone.
func (m *monitor) stop(sig int, timeout *time.Duration, by string) error {
	m.askForEnd(by)
	l, err := m.current()
	if err != nil {
		return nil // between two lives, and there will be no next one
	}
	if sig == 0 {
		sig = m.StopSignal
	}
	m.tellKill(unix.Signal(sig))
	patience := m.StopTimeout
	if timeout != nil {
		patience = *timeout
	}
	if err := l.c.Kill(unix.Signal(sig), false); err != nil && !errs.Is(err, errs.Conflict) {
		return err
	}
	_ = l.c.Group().Thaw()
	var over <-chan time.Time
	if patience >= 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-l.ended:
		return nil
	case <-over:
	}
	m.tellKill(unix.SIGKILL)
	if err := m.sigkill(l); err != nil && !errs.Is(err, errs.Conflict) {
		return err
	}
	<-l.ended
	return nil
}
