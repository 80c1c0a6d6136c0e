//go:build linux

package logs

import (
	"bytes"
	"encoding/binary"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// JournalSocket is where the journal of systemd takes entries (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const JournalSocket = "/run/systemd/journal/socket"

// slowest is how long a journal or a syslog server may keep the program waiting before a line is lost.
const slowest = 5 * time.Second

// journal gives each line to the journal of systemd, with Docker's fields.
type journal struct {
	fd      int
	to      *unix.SockaddrUnix
	head    []byte // fields that each entry has
	message []byte
	flags   int
}

func openJournal(c Config) (*journal, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errs.Wrap("open journal", os.NewSyscallError("socket", err))
	}
	j := &journal{fd: fd, to: &unix.SockaddrUnix{Name: JournalSocket}}
	if c.NonBlocking {
		j.flags = unix.MSG_DONTWAIT
	}
	if err := limitSending(fd); err == nil {
		err = probe(j.to)
	}
	if err != nil {
		unix.Close(fd)
		return nil, errs.Wrap("open journal", os.NewSyscallError("connect", err))
	}
	for _, key := range slices.Sorted(maps.Keys(c.Journald)) {
		j.head = appendField(j.head, key, []byte(c.Journald[key]))
	}
	return j, nil
}

// probe reports whether somebody listens. The socket that sends is not connected, so that it survives a restart of
// the journal.
func probe(to *unix.SockaddrUnix) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Connect(fd, to)
}

func limitSending(fd int) error {
	t := unix.NsecToTimeval(int64(slowest))
	return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &t)
}

// appendField appends a field; one whose value has several lines, or is binary, has its length before it.
func appendField(b []byte, key string, value []byte) []byte {
	b = append(b, key...)
	if bytes.IndexByte(value, '\n') < 0 {
		b = append(append(b, '='), value...)
		return append(b, '\n')
	}
	b = binary.LittleEndian.AppendUint64(append(b, '\n'), uint64(len(value)))
	return append(append(b, value...), '\n')
}

func (j *journal) line(stream byte, line []byte, at time.Time) {
	text, whole := bytes.CutSuffix(line, []byte("\n"))
	b := append(j.message[:0], j.head...)
	b = appendField(b, "MESSAGE", text)
	priority := "6" // info
	if stream == Stderr {
		priority = "3" // err
	}
	b = appendField(b, "PRIORITY", []byte(priority))
	b = appendField(b, "SYSLOG_TIMESTAMP", at.AppendFormat(nil, time.RFC3339Nano))
	if !whole {
		b = appendField(b, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
	}
	j.message = b
	_ = send(j.fd, b, j.to, j.flags)
}

// send sends a datagram; a nil address is that of the connection.
func send(fd int, b []byte, to unix.Sockaddr, flags int) error {
	for {
		if _, err := unix.SendmsgN(fd, b, nil, to, flags|unix.MSG_NOSIGNAL); err != unix.EINTR {
			return err
		}
	}
}

func (j *journal) flush() {}

func (j *journal) close() { unix.Close(j.fd) }
