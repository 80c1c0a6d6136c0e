//go:build linux

package engine

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/tty"
	"github.com/berth-containers/berth/monitor"
)

// ErrDetached is what a session ends with when its user typed the keys that leave it.
var ErrDetached = tty.ErrDetached

// Session is a connection with a container's standard streams.
type Session struct {
	c       *Container
	conn    *monitor.Conn
	streams Streams
	left    string // what is told when its user leaves
	tty     bool   // the keys that leave are those of a terminal
}

// Wait copies streams until the container's program ends, or the user leaves (ErrDetached).
func (s *Session) Wait() (*Exit, error) {
	defer s.conn.Close()
	in := s.streams.Stdin
	if in != nil && s.tty {
		keys, err := detachKeys(s.streams.DetachKeys)
		if err != nil {
			return nil, err
		}
		in = tty.NewDetachReader(in, keys)
	}
	exit, err := s.conn.Stream(monitor.Streams{Stdin: in, Stdout: s.streams.Stdout, Stderr: s.streams.Stderr, Resize: s.streams.Resize})
	if errors.Is(err, monitor.ErrLost) {
		return s.c.lostExit(err)
	}
	if errors.Is(err, ErrDetached) {
		s.c.tell(s.left)
	}
	return exit, err
}

// detachKeys reads the keys that leave a container; "none" is none.
func detachKeys(keys string) ([]byte, error) {
	if keys == "none" {
		return nil, nil
	}
	return tty.ParseDetachKeys(keys)
}

// lostExit is the end of a container whose monitor went away: what it has written, or what is found.
func (c *Container) lostExit(cause error) (*Exit, error) {
	exit := new(Exit)
	if atomicfile.ReadJSON(filepath.Join(c.dataDir(), exitFile), exit) == nil && !exit.Unseen {
		return exit, nil
	}
	c.repair()
	err := errs.New(errs.Internal, "wait for container "+c.ShortID(), cause)
	if c.Running() {
		err = err.WithHint("the container goes on: berth attach " + c.ShortID())
	}
	return nil, err
}

// LostStreams says what ended with the monitor of a running container that was killed; "" is nothing.
func (c *Container) LostStreams() string {
	status, _, orphan := c.now()
	if orphan {
		c.repair()
		status, _, _ = c.now()
	}
	switch {
	case status == nil || status.Takeovers == 0:
		return ""
	case c.Tty:
		return "its terminal"
	case c.OpenStdin:
		return "its standard input"
	}
	return ""
}

// Attach connects with a running container.
func (c *Container) Attach(s Streams) (*Session, error) {
	status, _, _ := c.now()
	if status != nil && status.Phase == monitor.Paused {
		return nil, errs.Text(errs.Conflict, "You cannot attach to a paused container, unpause it first")
	}
	conn, err := c.dial()
	if err != nil {
		return nil, errs.Text(errs.Conflict, "You cannot attach to a stopped container, start it first")
	}
	_, err = conn.Ask(monitor.Request{Op: "attach", Stdin: s.Stdin != nil && c.OpenStdin, Stdout: s.Stdout != nil, Stderr: s.Stderr != nil})
	if err != nil {
		conn.Close()
		return nil, err
	}
	c.tell("attach")
	return &Session{c: c, conn: conn, streams: s, left: "detach", tty: c.Tty}, nil
}

func (c *Container) dial() (*monitor.Conn, error) {
	conn, err := monitor.Dial(c.runDir())
	if errors.Is(err, monitor.ErrNoMonitor) {
		c.repair()
		conn, err = monitor.Dial(c.runDir())
	}
	if errors.Is(err, monitor.ErrNoMonitor) {
		return nil, c.notRunning()
	}
	return conn, err
}

func (c *Container) notRunning() error {
	return errs.Text(errs.Conflict, "container "+c.ID+" is not running")
}

// ask asks the monitor for something that is over with its reply.
func (c *Container) ask(r monitor.Request) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Ask(r)
	return err
}

// Wait waits for the end of the container. One that does not run has ended: that exit is returned, and a zero one for a
// container that was never started.
func (c *Container) Wait() (*Exit, error) {
	for {
		conn, err := c.dial()
		if err != nil {
			if status, _, _ := c.now(); status == nil || !errs.Is(err, errs.Conflict) {
				break
			}
			time.Sleep(5 * time.Millisecond) // its monitor takes no more requests: it is writing the end down
			continue
		}
		var exit *Exit
		if _, err = conn.Ask(monitor.Request{Op: "wait"}); err == nil {
			exit, err = conn.Stream(monitor.Streams{})
		}
		conn.Close()
		if !errors.Is(err, monitor.ErrLost) {
			return exit, err
		}
	}
	if _, exit, _ := c.now(); exit != nil {
		return exit, nil
	}
	if !c.e.exists(c.ID) {
		return nil, noSuchContainer(c.ID)
	}
	return &Exit{}, nil
}
