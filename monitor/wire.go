//go:build linux

package monitor

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// A connection carries frames: one byte of kind, four bytes of length (big endian), so many bytes.
const (
	frameRequest  = 'q' // from the client, first: Request
	frameStdin    = 'i'
	frameStdinEnd = 'e'
	frameResize   = 'w' // Size
	frameReply    = 'y' // from the monitor, once: Reply
	frameStdout   = 'o'
	frameStderr   = 'r'
	frameEnd      = 'x' // Exit; the last one

	headerSize = 5
	largest    = 16 << 20 // bytes of one frame; more is nonsense
)

// Request is what a client asks for.
type Request struct {
	Op string `json:"op"` // start (of the engine), attach, wait, signal, stop, pause, resume, resize, update, undo, exec

	Stdin  bool  `json:"stdin,omitempty"` // attach, exec: which streams
	Stdout bool  `json:"stdout,omitempty"`
	Stderr bool  `json:"stderr,omitempty"`
	Size   *Size `json:"size,omitempty"` // resize, exec

	Signal  int            `json:"signal,omitempty"`  // signal, stop
	Timeout *time.Duration `json:"timeout,omitempty"` // stop; nil: the container's

	Resources *specs.LinuxResources `json:"resources,omitempty"` // update
	Restart   *Restart              `json:"restart,omitempty"`   // update
	Journal   *Journal              `json:"journal,omitempty"`   // update: the container has another name

	Undo *Undo `json:"undo,omitempty"` // undo: what is to be undone as well, because of a further network

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
	n := int(binary.BigEndian.Uint32(c.header[1:]))
	if n > largest {
		return 0, nil, fmt.Errorf("a frame of %d bytes", n)
	}
	if n > len(buf) {
		buf = make([]byte, n)
	}
	_, err = io.ReadFull(c.f, buf[:n])
	return c.header[0], buf[:n], err
}
