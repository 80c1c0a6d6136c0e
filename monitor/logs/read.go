//go:build linux

package logs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/berth-containers/berth/internal/errs"
)

// Entry is one line of a log.
type Entry struct {
	Log    []byte
	Stderr bool
	Time   time.Time
	Attrs  map[string]string
}

// Options say what of a log is read.
type Options struct {
	Follow         bool
	Stdout, Stderr bool      // which streams
	Tail           int       // the last N lines; negative: all
	Since, Until   time.Time // zero: unbounded
}

// ErrEnough ends a reading; a function that takes entries may return it.
var ErrEnough = errors.New("enough of the log was read")

// Read hands over what a log file and those that were rotated away hold, the oldest line first. With Follow it goes on
// until running is false, or take fails.
func Read(base string, o Options, running func() bool, take func(*Entry) error) error {
	r := &reader{Options: o, take: take, base: base}
	err := r.read(running)
	if errors.Is(err, ErrEnough) {
		return nil
	}
	return err
}

type reader struct {
	Options
	take   func(*Entry) error
	base   string
	offset int64 // in the open file: so far it was read
}

func (r *reader) read(running func() bool) error {
	segments, err := openSegments(r.base, r.Since)
	defer func() {
		for _, s := range segments {
			s.Close()
		}
	}()
	if err != nil {
		return err
	}
	if !r.Follow && len(segments) == 0 {
		return nil
	}
	segments, err = r.skip(segments)
	if err != nil {
		return err
	}
	for ; len(segments) > 1; segments = segments[1:] {
		if err := r.copyFrom(segments[0].File); err != nil {
			return err
		}
		segments[0].Close()
		r.offset = 0
	}
	if len(segments) == 0 {
		return r.follow(nil, running)
	}
	if !r.Follow {
		return r.copyFrom(segments[0].File)
	}
	s := segments[0]
	segments = nil
	return r.follow(s, running)
}

// skip leaves out the files, and sets the offset in the first that is left, before what is wanted.
func (r *reader) skip(segments []*segment) ([]*segment, error) {
	if len(segments) == 0 {
		return nil, nil
	}
	if r.Tail < 0 {
		var err error
		r.offset, err = firstSince(segments[0].File, r.Since)
		return segments, err
	}
	left := r.Tail
	for i := len(segments) - 1; i >= 0; i-- {
		offset, n, err := r.lastLines(segments[i].File, left)
		if err != nil {
			return segments, err
		}
		if left = n; left == 0 || i == 0 {
			for _, s := range segments[:i] {
				s.Close()
			}
			r.offset = offset
			return segments[i:], nil
		}
	}
	return segments, nil
}

// parse reads a line of a file; false when it is damaged, as by a power cut.
func parse(text []byte) (*Entry, bool) {
	if e := parsePlain(text); e != nil {
		return e, true
	}
	var l struct {
		Log    string            `json:"log"`
		Raw    []byte            `json:"raw"`
		Stream string            `json:"stream"`
		Time   time.Time         `json:"time"`
		Attrs  map[string]string `json:"attrs"`
	}
	if json.Unmarshal(text, &l) != nil {
		return nil, false
	}
	e := &Entry{Log: l.Raw, Stderr: l.Stream == "stderr", Time: l.Time, Attrs: l.Attrs}
	if e.Log == nil {
		e.Log = []byte(l.Log)
	}
	return e, true
}

// parsePlain reads a line as nearly all are: text without anything to be escaped but the newline at its end, and no
// attributes. It is five times as fast; nil is a line that is not so. The entry's bytes are those of text.
func parsePlain(text []byte) *Entry {
	rest, ok := bytes.CutPrefix(text, []byte(`{"log":"`))
	end := bytes.IndexByte(rest, '\\')
	if !ok || end < 0 || bytes.IndexByte(rest[:end], '"') >= 0 || !utf8.Valid(rest[:end]) {
		return nil
	}
	rest, ok = bytes.CutPrefix(rest[end:], []byte(`\n","stream":"std`))
	if !ok || len(rest) < 3 {
		return nil
	}
	stream := string(rest[:3])
	rest, ok = bytes.CutPrefix(rest[3:], []byte(`","time":"`))
	if !ok || stream != "out" && stream != "err" {
		return nil
	}
	rest, ok = bytes.CutSuffix(rest, []byte("\"}\n"))
	at, err := time.Parse(time.RFC3339Nano, string(rest))
	if !ok || err != nil {
		return nil
	}
	begin := len(`{"log":"`)
	text[begin+end] = '\n'
	return &Entry{Log: text[begin : begin+end+1 : begin+end+1], Stderr: stream == "err", Time: at}
}

func (r *reader) wanted(e *Entry) bool {
	return (e.Stderr && r.Stderr || !e.Stderr && r.Stdout) && !e.Time.Before(r.Since) && (r.Until.IsZero() || !e.Time.After(r.Until))
}

// copyFrom hands over the whole lines from the offset on.
func (r *reader) copyFrom(f *os.File) error {
	if _, err := f.Seek(r.offset, io.SeekStart); err != nil {
		return errs.Wrap("read log", err)
	}
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what is not yet a whole line comes later
		}
		if err != nil {
			return errs.Wrap("read log", err)
		}
		r.offset += int64(len(text))
		e, ok := parse(text)
		if !ok {
			continue
		}
		if !r.Until.IsZero() && e.Time.After(r.Until) {
			return ErrEnough
		}
		if !r.wanted(e) {
			continue
		}
		if err := r.take(e); err != nil {
			return err
		}
	}
}

const block = 64 << 10

// firstSince finds where the first line begins that is not before a time. Lines are in the order of their times.
func firstSince(f *os.File, since time.Time) (int64, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || since.IsZero() {
		return 0, errs.Wrap("read log", err)
	}
	low, high := int64(0), size // a line begins at low; it is before the time, unless low is 0
	for high-low > block {
		middle := low + (high-low)/2
		begin, text, err := lineAfter(f, middle, high)
		if err != nil {
			return 0, err
		}
		e, ok := parse(text)
		switch {
		case begin < 0 || !ok:
			high = middle
		case e.Time.Before(since):
			low = begin
		default:
			high = middle
		}
	}
	return low, nil
}

// lineAfter reads the first line that begins after an offset; -1 when none does before the end.
func lineAfter(f *os.File, offset, end int64) (begin int64, text []byte, err error) {
	in := bufio.NewReader(io.NewSectionReader(f, offset, end-offset))
	skipped, err := in.ReadBytes('\n')
	if err == nil {
		text, err = in.ReadBytes('\n')
	}
	if errors.Is(err, io.EOF) {
		return -1, nil, nil
	}
	return offset + int64(len(skipped)), text, errs.Wrap("read log", err)
}

// lastLines finds where the last n wanted lines of a file begin; left is how many are missing.
func (r *reader) lastLines(f *os.File, n int) (offset int64, left int, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return end, 0, errs.Wrap("read log", err)
	}
	var rest []byte // of a line that begins before what was read
	first := true
	for pos := end; pos > 0; {
		k := min(block, pos)
		pos -= k
		b := make([]byte, k, int(k)+len(rest))
		if _, err := f.ReadAt(b, pos); err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, errs.Wrap("read log", err)
		}
		b = append(b, rest...)
		if first { // what is after the last newline is not yet a line
			b, first = b[:bytes.LastIndexByte(b, '\n')+1], false
		}
		for len(b) > 0 {
			i := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
			if i == 0 && pos > 0 {
				break
			}
			e, ok := parse(b[i:])
			if b = b[:i]; !ok {
				continue
			}
			if e.Time.Before(r.Since) {
				return pos + int64(i), 0, nil
			}
			if r.wanted(e) {
				if n--; n == 0 {
					return pos + int64(i), 0, nil
				}
			}
		}
		rest = slices.Clone(b)
	}
	return 0, n, nil
}

// Prefix is what `logs` writes before a line: its time, and what was written with it.
func (e *Entry) Prefix(timestamps, details bool) string {
	prefix := ""
	if timestamps {
		prefix = e.Time.UTC().Format("2006-01-02T15:04:05.000000000Z") + " "
	}
	if details {
		var pairs []string
		for k, v := range e.Attrs {
			pairs = append(pairs, k+"="+v)
		}
		slices.Sort(pairs)
		prefix += strings.Join(pairs, ",") + " "
	}
	return prefix
}
