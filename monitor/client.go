//go:build linux

package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// ErrNoMonitor says that a container has no monitor: it does not run.
var ErrNoMonitor = errors.New("container is not running")

// ErrLost says that a monitor has ended without a word.
var ErrLost = errors.New("the container's monitor has ended unexpectedly")

// throughFolder is a socket's address that holds whatever the length of the folder's name is; an address has room for
// 107 bytes (unix(7)).
func throughFolder(dir string) (*unix.SockaddrUnix, func(), error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(fd) + "/" + controlFile}, func() { unix.Close(fd) }, nil
}

// Dial connects to the monitor of the container whose folder is dir, or fails with ErrNoMonitor.
func Dial(dir string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errs.Wrap("connect to monitor", os.NewSyscallError("socket", err))
	}
	addr, done, err := throughFolder(dir)
	if err == nil {
		err = unix.Connect(fd, addr)
		done()
	}
	if err == unix.ENOENT || err == unix.ECONNREFUSED {
		unix.Close(fd)
		return nil, ErrNoMonitor
	}
	if err != nil {
		unix.Close(fd)
		return nil, errs.Wrap("connect to monitor", err)
	}
	return newConn(fd)
}

// Ask makes a request and waits for its reply.
func (c *Conn) Ask(r Request) (*Reply, error) {
	if err := c.sendJSON(frameRequest, r); err != nil {
		return nil, lost(err)
	}
	return c.Reply()
}

// Reply waits for the reply to a request. Its error, if it has one, is returned.
func (c *Conn) Reply() (*Reply, error) {
	kind, payload, err := c.receive(nil)
	if err != nil {
		return nil, lost(err)
	}
	r := new(Reply)
	if kind != frameReply {
		return nil, errs.New(errs.Internal, "read reply of the monitor", fmt.Errorf("a frame %q", kind))
	}
	if err := json.Unmarshal(payload, r); err != nil {
		return nil, errs.Wrap("read reply of the monitor", err)
	}
	trace.Import(r.Steps)
	return r, r.Error.Err()
}

func lost(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return ErrLost
	}
	return errs.Wrap("speak with the monitor", err)
}

// Streams are a client's ends of a program's standard streams.
type Streams struct {
	Stdin          io.Reader // its end ends the program's input; its error ends Stream
	Stdout, Stderr io.Writer // nil: nobody listens
	Resize         <-chan Size
}

// Stream copies until the program ends, and returns how it ended. An error of Stdin ends it at once: the keys by which
// a user leaves.
func (c *Conn) Stream(s Streams) (*Exit, error) {
	left := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	if s.Stdin != nil {
		go func() {
			if err := c.copyInput(s.Stdin); err != nil {
				left <- err
				c.f.Close()
			}
		}()
	}
	if s.Resize != nil {
		go c.copySizes(s.Resize, done)
	}
	exit, err := c.copyOutput(s)
	select {
	case reason := <-left:
		if exit == nil {
			return nil, reason
		}
	default:
	}
	return exit, err
}

func (c *Conn) copyInput(r io.Reader) error {
	b := frame(32 << 10)
	for {
		n, err := r.Read(b[headerSize:])
		if n > 0 && c.sendFrame(frameStdin, b[:headerSize+n]) != nil {
			return nil // the program has ended; who reads its output will hear it
		}
		if errors.Is(err, io.EOF) {
			_ = c.sendFrame(frameStdinEnd, frame(0))
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (c *Conn) copySizes(sizes <-chan Size, done <-chan struct{}) {
	for {
		select {
		case s, ok := <-sizes:
			if !ok {
				return
			}
			_ = c.sendJSON(frameResize, s)
		case <-done:
			return
		}
	}
}

func (c *Conn) copyOutput(s Streams) (*Exit, error) {
	buf := make([]byte, 32<<10)
	for {
		kind, payload, err := c.receive(buf)
		if err != nil {
			return nil, lost(err)
		}
		var to io.Writer
		switch kind {
		case frameStdout:
			to = s.Stdout
		case frameStderr:
			to = s.Stderr
		case frameEnd:
			exit := new(Exit)
			return exit, errs.Wrap("read end of container", json.Unmarshal(payload, exit))
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(payload); err != nil {
			return nil, errs.Wrap("write output", err)
		}
	}
}
