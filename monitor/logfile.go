//go:build linux

package monitor

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/berth-containers/berth/internal/errs"
)

// longestLine is how much of a line without an end is kept back before it is written as a part, as Docker does.
const longestLine = 16 << 10

// logFile keeps output in the format of Docker's driver "json-file": one JSON object a line. A full file becomes
// NAME.1, NAME.1 becomes NAME.2, and so on.
type logFile struct {
	sync.Mutex
	Log
	f       *os.File
	size    int64
	attrs   []byte // `,"attrs":{…}`, or nothing
	partial map[byte][]byte
	out     []byte
}

func openLog(l Log) (*logFile, error) {
	if l.File == "" {
		return nil, nil
	}
	out := &logFile{Log: l, partial: map[byte][]byte{}}
	if len(l.Attrs) > 0 {
		b, err := json.Marshal(l.Attrs)
		if err != nil {
			return nil, errs.Wrap("open log", err)
		}
		out.attrs = append([]byte(`,"attrs":`), b...)
	}
	return out, errs.Wrap("open log", out.open())
}

func (l *logFile) open() (err error) {
	if l.f, err = os.OpenFile(l.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	fi, err := l.f.Stat()
	if err == nil {
		l.size = fi.Size()
	}
	return err
}

// write takes output of a stream; what is not yet a whole line waits for the rest.
func (l *logFile) write(kind byte, b []byte) {
	if l == nil {
		return
	}
	l.Lock()
	defer l.Unlock()
	now := time.Now().UTC()
	pending := l.partial[kind]
	l.out = l.out[:0]
	for len(b) > 0 {
		n := newline(b)
		if n < 0 {
			pending = append(pending, b...)
			if len(pending) < longestLine {
				break
			}
			n, b = 0, nil
		} else {
			pending, b = append(pending, b[:n]...), b[n:]
		}
		l.entry(kind, pending, now)
		pending = pending[:0]
	}
	if cap(pending) > 4*longestLine {
		pending = append([]byte(nil), pending...)
	}
	l.partial[kind] = pending
	l.flush()
}

// newline is how many bytes are in the first line, its end included; -1 when none ends.
func newline(b []byte) int {
	for i, c := range b {
		if c == '\n' {
			return i + 1
		}
	}
	return -1
}

func (l *logFile) entry(kind byte, line []byte, now time.Time) {
	stream := "stdout"
	if kind == frameStderr {
		stream = "stderr"
	}
	l.out = append(l.out, `{"log":`...)
	l.out = appendString(l.out, line)
	l.out = append(append(append(l.out, `,"stream":"`...), stream...), '"')
	l.out = append(l.out, l.attrs...)
	l.out = append(l.out, `,"time":"`...)
	l.out = now.AppendFormat(l.out, time.RFC3339Nano)
	l.out = append(l.out, "\"}\n"...)
}

// appendString appends bytes as a JSON string. What is plain, as nearly all output, is copied.
func appendString(out, s []byte) []byte {
	plain := true
	for _, c := range s {
		plain = plain && (c >= ' ' && c < 0x7f && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' || c == '\n')
	}
	if !plain {
		b, _ := json.Marshal(string(s)) // a string is always JSON; invalid UTF-8 becomes U+FFFD
		return append(out, b...)
	}
	out = append(out, '"')
	for len(s) > 0 {
		n := newline(s)
		if n < 0 {
			out = append(out, s...)
			break
		}
		out = append(append(out, s[:n-1]...), `\n`...)
		s = s[n:]
	}
	return append(out, '"')
}

// flush writes what is ready. A full disk loses output, it does not stop the container.
func (l *logFile) flush() {
	if len(l.out) == 0 {
		return
	}
	if l.MaxSize > 0 && l.size > 0 && l.size+int64(len(l.out)) > l.MaxSize {
		l.rotate()
	}
	if l.f == nil {
		return
	}
	n, _ := l.f.Write(l.out)
	l.size += int64(n)
	if cap(l.out) > 64<<10 {
		l.out = nil
	}
}

func (l *logFile) rotate() {
	l.f.Close()
	l.f = nil
	for i := max(l.MaxFiles, 1) - 1; i > 0; i-- {
		from := fmt.Sprintf("%s.%d", l.File, i-1)
		if i == 1 {
			from = l.File
		}
		_ = os.Rename(from, fmt.Sprintf("%s.%d", l.File, i))
	}
	if l.MaxFiles <= 1 {
		_ = os.Remove(l.File)
	}
	_ = l.open()
}

// finish writes lines that have no end.
func (l *logFile) finish() {
	if l == nil {
		return
	}
	l.Lock()
	defer l.Unlock()
	l.out = l.out[:0]
	for kind, pending := range l.partial {
		if len(pending) > 0 {
			l.entry(kind, pending, time.Now().UTC())
		}
	}
	clear(l.partial)
	l.flush()
}
