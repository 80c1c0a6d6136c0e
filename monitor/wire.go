//go:build linux

package monitor

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/socket"
	"github.com/berth-containers/berth/monitor/logs"
)

// A connection carries frames: one byte of kind, four bytes of length (big endian), so many bytes.
const (
	frameFiles    = 'f' // from the engine, before all: its header has up to maxRights descriptors with it (SCM_RIGHTS)
	frameRoot     = 'o' // from the engine, before all that follows: Overlay
	frameRequest  = 'q' // from the client, first: Request
	frameStdin    = 'i'
	frameStdinEnd = 'e'
	frameResize   = 'w' // Size
	frameReply    = 'y' // from the monitor, once: Reply
	frameStdout   = logs.Stdout
	frameStderr   = logs.Stderr
	frameEnd      = 'x' // Exit; the last one

	headerSize = 5
	largest    = 16 << 20 // bytes of one frame; more is nonsense
	maxRights  = 250      // descriptors of one message; the kernel takes 253 (SCM_MAX_FD, unix(7))
)

// Request is what a client asks for.
type Request struct {
	Op string `json:"op"` // start (of the engine), attach, wait, signal, stop, pause, resume, resize, update, hold, names, exec

	Stdin  bool  `json:"stdin,omitempty"` // attach, exec: which streams
	Stdout bool  `json:"stdout,omitempty"`
	Stderr bool  `json:"stderr,omitempty"`
	Size   *Size `json:"size,omitempty"` // resize, exec

	Signal  int            `json:"signal,omitempty"`  // signal, stop
	Timeout *time.Duration `json:"timeout,omitempty"` // stop; nil: the container's
	By      string         `json:"by,omitempty"`      // stop: who asks; "": stop

	Resources *specs.LinuxResources `json:"resources,omitempty"` // update
	Restart   *Restart              `json:"restart,omitempty"`   // update
	Journal   *Journal              `json:"journal,omitempty"`   // update: the container has another name

	Plan *container.Plan `json:"plan,omitempty"` // update: of further lives

	Release []socket.Bound `json:"release,omitempty"` // hold: which of the held sockets are held no more; further ones come before the request

	Process *container.Process `json:"process,omitempty"` // exec
	Detach  bool               `json:"detach,omitempty"`
}

// Size is that of a terminal, in characters.
type Size struct {
	Width  uint16 `json:"width"`
	Height uint16 `json:"height"`
}

// Reply is what becomes of a request.
type Reply struct {
	Error *errs.Wire     `json:"error,omitempty"`
	Pid   int            `json:"pid,omitempty"`   // start, exec
	Steps []trace.Record `json:"steps,omitempty"` // start
}

// Conn is a connection between the monitor and somebody who asks.
type Conn struct {
	f       *os.File
	writing sync.Mutex
	header  [headerSize]byte // of the frame that is read
}

// newConn takes over a connected stream socket.
func newConn(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &Conn{f: os.NewFile(uintptr(fd), "connection")}, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.f.Close() }

// frame makes room for a frame's header in front of its payload.
func frame(size int) []byte { return make([]byte, headerSize+size) }

// sendFrame writes a frame whose payload lies behind the room for its header.
func (c *Conn) sendFrame(kind byte, b []byte) error {
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(len(b)-headerSize))
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.f.Write(b)
	return err
}

func (c *Conn) sendJSON(kind byte, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.sendFrame(kind, append(frame(0), payload...))
}

// receive reads one frame; buf is used if it is large enough.
func (c *Conn) receive(buf []byte) (kind byte, payload []byte, err error) {
	if _, err := io.ReadFull(c.f, c.header[:]); err != nil {
		return 0, nil, err
	}
	payload, err = c.receivePayload(buf)
	return c.header[0], payload, err
}

// receivePayload reads what follows a header.
func (c *Conn) receivePayload(buf []byte) ([]byte, error) {
	n := int(binary.BigEndian.Uint32(c.header[1:]))
	if n > largest {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	if n > len(buf) {
		buf = make([]byte, n)
	}
	_, err := io.ReadFull(c.f, buf[:n])
	return buf[:n], err
}

// sendFiles hands over descriptors.
func (c *Conn) sendFiles(files []*os.File) error {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	for some := range slices.Chunk(files, maxRights) {
		fds := make([]int, len(some))
		for i, f := range some {
			fds[i] = int(f.Fd())
		}
		header := frame(0)
		header[0] = frameFiles
		rights := unix.UnixRights(fds...)
		werr := raw.Write(func(fd uintptr) bool {
			err = unix.Sendmsg(int(fd), header, rights, nil, 0)
			return err != unix.EAGAIN
		})
		if err = errors.Join(werr, err); err != nil {
			return err
		}
	}
	return nil
}

// receiveFirst reads the engine's request and what comes before it: the root, which is given to a function at once, and
// files.
func (c *Conn) receiveFirst(root func([]byte)) (files []*os.File, payload []byte, err error) {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	for {
		n, space := 0, make([]byte, unix.CmsgSpace(4*maxRights))
		var more []byte
		rerr := raw.Read(func(fd uintptr) bool {
			var size int
			n, size, _, _, err = unix.Recvmsg(int(fd), c.header[:], space, unix.MSG_CMSG_CLOEXEC|unix.MSG_WAITALL)
			more = space[:max(size, 0)] // as nothing may have come: the whole space is for the next try
			return err != unix.EAGAIN
		})
		if err = errors.Join(rerr, err); err == nil && n < headerSize {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, nil, err
		}
		if c.header[0] != frameFiles {
			if payload, err = c.receivePayload(nil); err != nil || c.header[0] != frameRoot {
				return files, payload, err
			}
			root(payload)
			continue
		}
		if files, err = appendRights(files, more); err != nil {
			return nil, nil, err
		}
	}
}

func appendRights(files []*os.File, control []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "held"))
		}
	}
	return files, nil
}
