//go:build linux

package monitor

import (
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/container"
)

// exec runs a further program in the container. Its client is told the pid, then has its streams, then its end. One
// that leaves does not end it.
func (m *monitor) exec(conn *Conn, r Request) {
	l, err := m.current()
	if err != nil {
		conn.close(err)
		return
	}
	s, e, err := execute(l, r)
	if err != nil {
		conn.close(err)
		return
	}
	s.resize(r.Size)
	line := strings.Join(r.Process.Args, " ")
	m.tell("exec_create: " + line)
	m.tell("exec_start: " + line)
	_ = conn.sendJSON(frameReply, Reply{Pid: e.Pid()})
	attached := !r.Detach
	if attached {
		go conn.readInput(r, true, func() *stdio { return s })
	} else {
		conn.Close()
	}
	var sending atomic.Int32
	s.copyTo(func(kind byte, b []byte) {
		if attached && (kind == frameStdout && r.Stdout || kind == frameStderr && r.Stderr) {
			sending.Add(1)
			_ = conn.sendFrame(kind, b)
			sending.Add(-1)
		}
	})
	exit := awaitExec(e)
	e.Close()
	s.drain(2*time.Second, func() bool { return sending.Load() > 0 }) // as long as its reader takes
	m.tell("exec_die", "exitCode", strconv.Itoa(exit.Code))
	if attached {
		_ = conn.sendJSON(frameEnd, exit)
		conn.Close()
	}
}

// execute starts the program with streams of its own.
func execute(l *life, r Request) (s *stdio, e *container.Exec, err error) {
	s = &stdio{}
	o := container.ExecOptions{Process: r.Process}
	if !r.Process.Terminal {
		if s, _, err = openPipes(r.Stdin); err != nil {
			return nil, nil, err
		}
		o.Stdin, o.Stdout, o.Stderr = s.theirs[0], s.theirs[1], s.theirs[2]
	}
	e, err = l.c.Exec(o)
	if err != nil {
		s.close()
		return nil, nil, err
	}
	s.handedOver()
	if r.Process.Terminal {
		if err := s.useTerminal(e.Console()); err != nil {
			_ = unix.Kill(e.Pid(), unix.SIGKILL)
			_, _ = e.Wait()
			return nil, nil, err
		}
	}
	return s, e, nil
}

func awaitExec(e *container.Exec) *Exit {
	exit := &Exit{}
	status, err := e.Wait()
	exit.set(status, err)
	return exit
}
