//go:build linux

package systemd

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long systemd may take for an answer, and for a job.
const patience = 30 * time.Second

// conn is one connection. It is used by one goroutine, which waits for each answer.
type conn struct {
	fd      int
	bus     bool // a bus with names is between us and systemd
	serial  uint32
	signals []*message // that came before the answer that was waited for
}

// Error is an error that systemd has answered.
type Error struct{ Name, Text string } // org.freedesktop.systemd1.NoSuchUnit, Unit x.scope not loaded.

func (e *Error) Error() string { return e.Text }

const (
	busName = "org.freedesktop.DBus"
	busPath = "/org/freedesktop/DBus"
)

// dial connects with a socket and says who we are.
func dial(socket string, bus bool) (*conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	c := &conn{fd: fd, bus: bus}
	wait := unix.NsecToTimeval(int64(patience))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait) // of connect, too
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: socket})
	}
	if err == nil {
		err = c.authenticate()
	}
	if err == nil && bus {
		_, err = c.call(&message{destination: busName, path: busPath, iface: busName, member: "Hello"}, "", nil)
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	return c, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// authenticate lets the kernel say who we are ("EXTERNAL" without a name): inside a user namespace our own number would
// not be the one that the other side knows. Some answer OK at once, some ask for the name again.
func (c *conn) authenticate() error {
	line, err := c.ask("\x00AUTH EXTERNAL\r\n")
	if line == "DATA" {
		line, err = c.ask("DATA\r\n")
	}
	if err == nil && !strings.HasPrefix(line, "OK") {
		err = fmt.Errorf("we are refused: %q", line)
	}
	if err == nil {
		err = c.send([]byte("BEGIN\r\n"))
	}
	// systemd that reads a message together with this line sees it only when something comes after it. So it has to have
	// read the line before.
	for end := time.Now().Add(patience); err == nil; time.Sleep(20 * time.Microsecond) {
		unread, err := unix.IoctlGetInt(c.fd, unix.SIOCOUTQ)
		if err != nil || unread == 0 || time.Now().After(end) {
			break
		}
	}
	return err
}

// ask sends a line of the authentication and reads the answer; nothing else can come before BEGIN.
func (c *conn) ask(text string) (string, error) {
	err := c.send([]byte(text))
	line, b := "", make([]byte, 256)
	for err == nil && !strings.HasSuffix(line, "\n") && len(line) < 16384 {
		var n int
		n, err = c.once(b, unix.Read)
		line += string(b[:n])
	}
	return strings.TrimSpace(line), err
}

func (c *conn) send(b []byte) error {
	return c.all(b, func(fd int, b []byte) (int, error) { return unix.SendmsgN(fd, b, nil, nil, unix.MSG_NOSIGNAL) })
}

// fill reads exactly len(b) bytes.
func (c *conn) fill(b []byte) error { return c.all(b, unix.Read) }

func late() error { return fmt.Errorf("there is no answer within %s", patience) }

// all goes on with a call until it has done all bytes.
func (c *conn) all(b []byte, call func(int, []byte) (int, error)) error {
	for len(b) > 0 {
		n, err := c.once(b, call)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (c *conn) once(b []byte, call func(int, []byte) (int, error)) (int, error) {
	for {
		switch n, err := call(c.fd, b); {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, late()
		case err != nil:
			return 0, err
		case n == 0:
			return 0, errors.New("the connection was closed")
		default:
			return n, nil
		}
	}
}

// receive waits for the next message.
func (c *conn) receive(deadline time.Time) (*message, error) {
	if time.Now().After(deadline) { // others' signals can come for ever
		return nil, late()
	}
	b := make([]byte, fixed)
	if err := c.fill(b); err != nil {
		return nil, err
	}
	n, err := size(b)
	if err != nil {
		return nil, err
	}
	b = append(b, make([]byte, n-fixed)...)
	if err := c.fill(b[fixed:]); err != nil {
		return nil, err
	}
	return decode(b)
}

// call calls a method, with the arguments that args holds, and returns what it answers: texts of the types in want.
func (c *conn) call(m *message, want string, args []byte) ([]string, error) {
	c.serial++
	m.serial = c.serial
	if err := c.send(m.encode(args)); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; {
		answer, err := c.receive(deadline)
		switch {
		case err != nil:
			return nil, err
		case answer.kind == signal:
			c.signals = append(c.signals, answer)
		case answer.reply != m.serial:
		case answer.kind == errorReply:
			e := &Error{answer.err, answer.err}
			if text, err := answer.texts("s"); err == nil {
				e.Text = text[0]
			}
			return nil, e
		case answer.kind == methodReturn:
			return answer.texts(want)
		}
	}
}

// waitJob waits for the end of a job of systemd's. Every other end than "done" is an error.
func (c *conn) waitJob(job string) error {
	for deadline := time.Now().Add(patience); ; {
		var m *message
		if len(c.signals) > 0 {
			m, c.signals = c.signals[0], c.signals[1:]
		} else {
			var err error
			if m, err = c.receive(deadline); err != nil {
				return err
			}
		}
		if m.kind != signal || m.member != "JobRemoved" || m.iface != managerIface {
			continue
		}
		end, err := m.texts("uoss") // its number, the job, the unit, how it ended
		if err != nil {
			return err
		}
		if end[1] == job && end[3] == "done" {
			return nil
		}
		if end[1] == job {
			return &Error{end[3], "the job has ended with " + end[3]}
		}
	}
}
