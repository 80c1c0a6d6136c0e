//go:build linux

package logs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/berth-containers/berth/internal/errs"
)

// file keeps lines as Docker's driver json-file does: one JSON object a line. A line that is not UTF-8 has its exact
// bytes beside it, in a member that Docker does not know: "raw", base64.
type file struct {
	Config
	f     *os.File
	size  int64
	attrs []byte // `,"attrs":{…}`, or nothing
	out   []byte

	mu   sync.Mutex // of names, while a child compresses
	work *compression
}

// openFile opens the file for more lines; last is the time before which no further line may be.
func openFile(c Config) (_ *file, last time.Time, err error) {
	out := &file{Config: c}
	if len(c.Attrs) > 0 {
		b, err := json.Marshal(c.Attrs)
		if err != nil {
			return nil, last, errs.Wrap("open log", err)
		}
		out.attrs = append([]byte(`,"attrs":`), b...)
	}
	_ = os.Remove(out.temporary()) // of a monitor that was killed
	if err := out.open(); err != nil {
		return nil, last, errs.Wrap("open log", err)
	}
	if fi, err := out.f.Stat(); err == nil && fi.Size() > 0 {
		last = fi.ModTime().UTC()
	}
	return out, last, nil
}

func (l *file) open() (err error) {
	if l.f, err = os.OpenFile(l.File, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	fi, err := l.f.Stat()
	if err == nil {
		l.size = fi.Size()
	}
	return err
}

func (l *file) line(stream byte, line []byte, at time.Time) {
	before := len(l.out)
	name := `,"stream":"stdout"`
	if stream == Stderr {
		name = `,"stream":"stderr"`
	}
	l.out = append(l.out, `{"log":`...)
	var exact bool
	if l.out, exact = appendString(l.out, line); !exact {
		l.out = append(l.out, `,"raw":"`...)
		l.out = append(base64.StdEncoding.AppendEncode(l.out, line), '"')
	}
	l.out = append(append(l.out, name...), l.attrs...)
	l.out = append(l.out, `,"time":"`...)
	l.out = at.AppendFormat(l.out, time.RFC3339Nano)
	l.out = append(l.out, "\"}\n"...)
	if l.MaxSize > 0 && before > 0 && l.size+int64(len(l.out)) > l.MaxSize { // a file ends with a line, and below its limit
		entry := append([]byte(nil), l.out[before:]...)
		l.out = l.out[:before]
		l.flush()
		l.out = append(l.out, entry...)
	}
}

// appendString appends bytes as a JSON string, and reports whether it says them exactly. What is plain, as nearly all
// output, is copied.
func appendString(out, s []byte) (_ []byte, exact bool) {
	plain := true
	for _, c := range s {
		plain = plain && (c >= ' ' && c < 0x7f && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' || c == '\n')
	}
	if !plain {
		b, _ := json.Marshal(string(s)) // a string is always JSON; invalid UTF-8 becomes U+FFFD
		return append(out, b...), utf8.Valid(s)
	}
	out = append(out, '"')
	for len(s) > 0 {
		n := bytes.IndexByte(s, '\n')
		if n < 0 {
			out = append(out, s...)
			break
		}
		out = append(append(out, s[:n]...), `\n`...)
		s = s[n+1:]
	}
	return append(out, '"'), true
}

// flush writes what is ready. A full disk loses output, whole lines of it, and does not stop the container.
func (l *file) flush() {
	if len(l.out) == 0 {
		return
	}
	if l.MaxSize > 0 && l.size > 0 && l.size+int64(len(l.out)) > l.MaxSize {
		l.rotate()
	}
	if l.f == nil && l.open() != nil {
		l.out = l.out[:0]
		return
	}
	n, err := l.f.Write(l.out)
	if err != nil { // what comes next must not go on with half a line
		n = bytes.LastIndexByte(l.out[:n], '\n') + 1
		_ = l.f.Truncate(l.size + int64(n))
	}
	l.size += int64(n)
	l.out = l.out[:0]
	if cap(l.out) > 64<<10 {
		l.out = nil
	}
}

const packed = ".gz"

// name is that of the file which was rotated i times.
func (l *file) name(i int) string {
	if i == 0 {
		return l.File
	}
	return l.File + "." + strconv.Itoa(i)
}

func (l *file) rotate() {
	l.f.Close()
	l.f = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	last := max(l.MaxFiles, 1) - 1
	for _, suffix := range []string{"", packed} {
		_ = os.Remove(l.name(last) + suffix)
	}
	for i := last; i > 0; i-- { // one by one, so that at each moment readers find all of them, in their order
		for _, suffix := range []string{"", packed} {
			_ = os.Rename(l.name(i-1)+suffix, l.name(i)+suffix)
		}
	}
	_ = l.open()
	if l.work != nil {
		l.work.index++
	} else if l.Compress && last > 0 {
		l.compress(1)
	}
}

func (l *file) close() {
	l.mu.Lock()
	w := l.work
	if w != nil {
		w.abandon()
	}
	l.mu.Unlock()
	if w != nil {
		<-w.done
	}
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}
