//go:build linux

// Package event is the journal of what happened to containers, images, networks and volumes: one file, a line of JSON
// each. Any number of processes append to it without a lock, since a line is one write(2) to a file that was opened with
// O_APPEND. It survives every process and the host's reboots.
package event

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Event is one thing that happened, in the shape of Docker's GET /events.
type Event struct {
	Type     string // container, image, network, volume
	Action   string // create, start, die, …
	Actor    Actor
	Scope    string `json:"scope"` // local
	Time     int64  `json:"time"`  // seconds since 1970
	TimeNano int64  `json:"timeNano"`
}

// Actor is what it happened to.
type Actor struct {
	ID         string
	Attributes map[string]string // of a container: its labels, image and name, and what the action has to tell
}

// Limit is the size in bytes at which a journal becomes the old one, and a new one begins: some ten thousands of events
// are kept at least.
const Limit = 8 << 20

// Old is the name of the journal before this one.
func Old(file string) string { return file + ".1" }

// New is an event that happens now. What is said of the object each time are attributes; more are pairs of what this
// event has to say.
func New(kind, action, id string, attributes map[string]string, more ...string) Event {
	now := time.Now()
	all := make(map[string]string, len(attributes)+len(more)/2)
	maps.Copy(all, attributes)
	for i := 0; i+1 < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return Event{Type: kind, Action: action, Actor: Actor{ID: id, Attributes: all}, Scope: "local", Time: now.Unix(), TimeNano: now.UnixNano()}
}

// Append writes an event down. What cannot be written is not: a full disk must not keep a container from ending.
func Append(file string, e Event) {
	line, err := json.Marshal(e)
	if err != nil || file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.Write(append(line, '\n'))
	if fi, err := f.Stat(); err == nil && fi.Size() > Limit {
		rotate(file, f, fi)
	}
}

// rotate makes the journal the old one, unless another process has just done so. Whoever holds the lock of a full
// journal is the only one to rename it: of two, the second would put the new journal over the old one.
func rotate(file string, f *os.File, full fs.FileInfo) {
	if unix.Flock(int(f.Fd()), unix.LOCK_EX) != nil {
		return
	}
	if now, err := os.Stat(file); err == nil && os.SameFile(now, full) {
		_ = os.Rename(file, Old(file))
	}
}

// Options of [Read].
type Options struct {
	Since time.Time // zero: only what happens from now on
	Until time.Time // zero: for ever; else events up to this time, which Read waits for
}

// pollInterval is how often a follower looks for new lines.
const pollInterval = 50 * time.Millisecond

// Read hands over events in the order in which they were written, until take fails, Until has come or ctx is done.
func Read(ctx context.Context, file string, o Options, take func(Event) error) error {
	r := &reader{file: file, o: o, take: take}
	defer r.close()
	if err := r.open(o.Since.IsZero()); err != nil {
		return err
	}
	if !o.Since.IsZero() {
		if err := r.readOld(); err != nil {
			return err
		}
	}
	for {
		over := !o.Until.IsZero() && !time.Now().Before(o.Until)
		if err := r.drain(); err != nil {
			return err
		}
		if over {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pollInterval):
		}
		if err := r.follow(); err != nil {
			return err
		}
	}
}

type reader struct {
	file string
	o    Options
	take func(Event) error
	f    *os.File // nil: the journal is not there yet
	buf  *bufio.Reader
	rest []byte // the begin of a line whose end is not written yet
}

func (r *reader) close() {
	if r.f != nil {
		r.f.Close()
	}
	r.f = nil
}

// open opens the journal, at its end or its begin.
func (r *reader) open(atEnd bool) error {
	f, err := os.Open(r.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if atEnd {
		if _, err := f.Seek(0, io.SeekEnd); err != nil {
			f.Close()
			return err
		}
	}
	r.f, r.buf, r.rest = f, bufio.NewReader(f), nil
	return nil
}

// readOld hands over what the journal before this one holds. This one is open already: what is written meanwhile is in
// one of the two, whichever becomes the old one.
func (r *reader) readOld() error {
	f, err := os.Open(Old(r.file))
	if err != nil {
		return nil // there is none
	}
	old := &reader{o: r.o, take: r.take, f: f, buf: bufio.NewReader(f)}
	defer old.close()
	if r.f != nil {
		mine, err := r.f.Stat()
		if err != nil {
			return err
		}
		if fi, err := f.Stat(); err != nil || os.SameFile(mine, fi) {
			return err
		}
	}
	return old.drain()
}

// follow goes on in the new journal when this one has become the old one.
func (r *reader) follow() error {
	if r.f == nil {
		return r.open(false)
	}
	mine, err := r.f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(r.file)
	if err == nil && os.SameFile(mine, now) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := r.drain(); err != nil {
		return err
	}
	r.close()
	return r.open(false)
}

// drain hands over all whole lines that are there. A line that is none of ours, of a write that a power cut has torn,
// is left out.
func (r *reader) drain() error {
	if r.f == nil {
		return nil
	}
	for {
		line, err := r.buf.ReadBytes('\n')
		r.rest = append(r.rest, line...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var e Event
		bad := json.Unmarshal(r.rest, &e) != nil
		r.rest = r.rest[:0]
		at := time.Unix(0, e.TimeNano)
		if bad || at.Before(r.o.Since) || !r.o.Until.IsZero() && at.After(r.o.Until) {
			continue
		}
		if err := r.take(e); err != nil {
			return err
		}
	}
}
