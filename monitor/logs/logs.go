//go:build linux

package logs

import (
	"bytes"
	"sync"
	"time"
)

// Streams of output.
const (
	Stdout byte = 'o'
	Stderr byte = 'r'
)

// longestLine is how much of a line without an end is kept back before it is written as a part, as Docker does.
const longestLine = 16 << 10

// Config says what is kept of the output, and where. The zero one keeps nothing.
type Config struct {
	File     string            `json:"file,omitempty"`     // "": no file
	MaxSize  int64             `json:"maxSize,omitempty"`  // bytes of one file; 0: unlimited
	MaxFiles int               `json:"maxFiles,omitempty"` // with the one that is written to
	Compress bool              `json:"compress,omitempty"` // all but that
	Attrs    map[string]string `json:"attrs,omitempty"`    // written with each line

	Journald map[string]string `json:"journald,omitempty"` // fields of each entry of the journal; nil: it gets none
	Syslog   *Syslog           `json:"syslog,omitempty"`   // nil: no server gets them

	NonBlocking bool `json:"nonBlocking,omitempty"` // a journal or a server that is slow loses lines instead of slowing the program
}

// driver takes lines. A line without a newline at its end is a part of one.
type driver interface {
	line(stream byte, line []byte, at time.Time)
	flush() // after the lines of one write
	close()
}

// Writer takes output and gives it to drivers by the line. A nil one keeps nothing.
type Writer struct {
	mu      sync.Mutex
	drivers []driver
	file    *file
	pending map[byte][]byte // what is not yet a line
	last    time.Time
}

// Open begins to keep output.
func Open(c Config) (*Writer, error) {
	w := &Writer{pending: map[byte][]byte{}}
	if c.File != "" {
		f, last, err := openFile(c)
		if err != nil {
			return nil, err
		}
		w.file, w.last = f, last
		w.drivers = append(w.drivers, f)
	}
	if c.Journald != nil {
		d, err := openJournal(c)
		if err != nil {
			return nil, err
		}
		w.drivers = append(w.drivers, d)
	}
	if c.Syslog != nil {
		d, err := openSyslog(c)
		if err != nil {
			return nil, err
		}
		w.drivers = append(w.drivers, d)
	}
	if len(w.drivers) == 0 {
		return nil, nil
	}
	return w, nil
}

// Write takes output of a stream; what is not yet a whole line waits for the rest.
func (w *Writer) Write(stream byte, b []byte) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	pending := w.pending[stream]
	for len(b) > 0 {
		n := bytes.IndexByte(b, '\n') + 1
		if n == 0 {
			pending = append(pending, b...)
			if len(pending) < longestLine {
				break
			}
			b = nil
		}
		line := b[:n]
		if len(pending) > 0 {
			pending = append(pending, b[:n]...)
			line = pending
		}
		w.line(stream, line, now)
		pending, b = pending[:0], b[n:]
	}
	if cap(pending) > 4*longestLine {
		pending = append([]byte(nil), pending...)
	}
	w.pending[stream] = pending
	w.flush()
}

// now is the time of the lines that come next. It never goes back, whatever is done to the clock: readers search by it.
func (w *Writer) now() time.Time {
	if now := time.Now().UTC(); now.After(w.last) {
		w.last = now
	}
	return w.last
}

func (w *Writer) line(stream byte, line []byte, at time.Time) {
	for _, d := range w.drivers {
		d.line(stream, line, at)
	}
}

func (w *Writer) flush() {
	for _, d := range w.drivers {
		d.flush()
	}
}

// Finish writes lines that have no end: the program has ended.
func (w *Writer) Finish() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, stream := range []byte{Stdout, Stderr} {
		if line := w.pending[stream]; len(line) > 0 {
			w.line(stream, line, w.now())
		}
	}
	clear(w.pending)
	w.flush()
}

// Close ends the keeping.
func (w *Writer) Close() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.drivers {
		d.close()
	}
}

// Pending is output that is not yet a line, for a writer that goes on after this one ([Writer.Resume]).
func (w *Writer) Pending() map[byte][]byte {
	if w == nil {
		return nil
	}
	return w.pending
}

// Resume takes what another writer had not yet written.
func (w *Writer) Resume(pending map[byte][]byte) {
	if w != nil && pending != nil {
		w.pending = pending
	}
}

// Busy reports whether a child of this process compresses a file: it must be waited for.
func (w *Writer) Busy() bool {
	return w != nil && w.file != nil && w.file.compressing()
}
