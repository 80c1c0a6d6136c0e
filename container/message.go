//go:build linux

package container

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// What the child says, each with one datagram; the parent answers the first three, which wait for it, with one byte.
const (
	atClocks kind = 't' // it has left the time namespace; the offsets of the new one are to be written
	atHooks  kind = 'h' // all mounts are made, pivot_root is next; only said when the parent has hooks to run
	ready    kind = 'r' // only the go is missing. The master of the terminal comes with it
	failed   kind = 'f' // the step that failed, and why
	listener kind = 'l' // after the go: the seccomp filter's listener comes with it
)

type kind byte

// message is one datagram: its kind; of a failure, the length of an error in JSON and that error; then the steps.
type message struct {
	Kind  kind
	Error *errs.Wire
	Steps []byte // packed, read only when somebody asks for them
}

func (m *message) encode() ([]byte, error) {
	var failure []byte
	if m.Error != nil {
		var err error
		if failure, err = json.Marshal(m.Error); err != nil {
			return nil, err
		}
	}
	b := make([]byte, 0, 1+binary.MaxVarintLen64+len(failure)+len(m.Steps))
	b = binary.AppendUvarint(append(b, byte(m.Kind)), uint64(len(failure)))
	return append(append(b, failure...), m.Steps...), nil
}

func decodeMessage(b []byte) (*message, error) {
	if len(b) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	m := &message{Kind: kind(b[0])}
	size, n := binary.Uvarint(b[1:])
	if n <= 0 || size > uint64(len(b)-1-n) {
		return nil, io.ErrUnexpectedEOF
	}
	failure, steps := b[1+n:][:size], b[1+n:][size:]
	m.Steps = steps
	if size > 0 {
		return m, json.Unmarshal(failure, &m.Error)
	}
	return m, nil
}

// channel is one end of the SEQPACKET pair. It is a bare descriptor: both sides wait in system calls.
type channel int

// pair makes both ends; the child's is inherited by number, so it is closed on execve only in the parent's other
// children.
func pair() (parent, child channel, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, errs.Wrap("make socket pair", err)
	}
	return channel(fds[0]), channel(fds[1]), nil
}

func (c channel) close() { unix.Close(int(c)) }

// send sends a message, and a file with it.
func (c channel) send(m message, file *os.File) error {
	if file == nil {
		return c.sendFD(m, -1)
	}
	return c.sendFD(m, int(file.Fd()))
}

func (c channel) sendFD(m message, fd int) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	for {
		if err = unix.Sendmsg(int(c), b, rights, nil, unix.MSG_NOSIGNAL); err != unix.EINTR {
			return errs.Wrap("report to the runtime", err)
		}
	}
}

// receive waits for a message. The end of the channel is a nil message: the child has executed its program, or is gone.
func (c channel) receive() (m *message, file *os.File, err error) {
	size := retry(func() (int, error) {
		n, _, err := unix.Recvfrom(int(c), nil, unix.MSG_PEEK|unix.MSG_TRUNC)
		return n, err
	})
	if size <= 0 {
		return nil, nil, nil
	}
	b, oob := make([]byte, size), make([]byte, unix.CmsgSpace(4))
	var oobn int
	n := retry(func() (n int, err error) {
		n, oobn, _, _, err = unix.Recvmsg(int(c), b, oob, unix.MSG_CMSG_CLOEXEC)
		return n, err
	})
	if n != size {
		return nil, nil, errs.New(errs.Internal, "read message of init", fmt.Errorf("it is cut"))
	}
	if cs, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(cs) == 1 {
		if fds, err := unix.ParseUnixRights(&cs[0]); err == nil && len(fds) == 1 {
			file = os.NewFile(uintptr(fds[0]), "file of init")
		}
	}
	m, err = decodeMessage(b)
	return m, file, errs.Wrap("read message of init", err)
}

// retry repeats a call that a signal has interrupted; a failure is -1.
func retry(call func() (int, error)) int {
	for {
		n, err := call()
		if err == nil {
			return n
		}
		if err != unix.EINTR {
			return -1
		}
	}
}

// proceed is the parent's one byte: go on.
func (c channel) proceed() error {
	for {
		if err := unix.Sendto(int(c), []byte{1}, unix.MSG_NOSIGNAL, nil); err != unix.EINTR {
			return errs.Wrap("let init go on", err)
		}
	}
}

// await waits for the parent's byte; an error is the parent's end.
func (c channel) await() error {
	var b [1]byte
	n := retry(func() (int, error) { return unix.Read(int(c), b[:]) })
	if n != 1 {
		return errs.New(errs.Internal, "wait for the runtime", fmt.Errorf("it has ended"))
	}
	return nil
}

// importSteps adds steps that another process has packed to ours.
func importSteps(packed []byte) {
	if records, err := trace.Unpack(packed); err == nil {
		trace.Import(records)
	}
}
