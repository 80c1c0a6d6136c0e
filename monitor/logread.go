//go:build linux

package monitor

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// line is one line of a log file.
type line struct {
	Log    string            `json:"log"`
	Stream string            `json:"stream"`
	Time   time.Time         `json:"time"`
	Attrs  map[string]string `json:"attrs"`
}

// LogOptions say what of a log is read.
type LogOptions struct {
	Follow, Timestamps bool
	Stdout, Stderr     bool      // which streams
	Tail               int       // the last N lines; negative: all
	Since, Until       time.Time // zero: unbounded
	Details            bool
}

// ReadLog writes what a log holds, which [Log] names: its rotated files first. With Follow it goes on until running is
// false, or a writer fails.
func ReadLog(base string, o LogOptions, running func() bool, stdout, stderr io.Writer) error {
	files, err := logFiles(base)
	if err != nil {
		return err
	}
	r := &logReader{LogOptions: o, stdout: stdout, stderr: stderr}
	if o.Tail >= 0 {
		if err := r.seekTail(files); err != nil {
			return err
		}
	}
	for _, file := range files {
		if err := r.copyFile(file); err != nil {
			return err
		}
	}
	if o.Follow {
		return r.follow(base, running)
	}
	return nil
}

// logFiles are the log's files that are there, the oldest first.
func logFiles(base string) ([]string, error) {
	rotated, err := filepath.Glob(base + ".*")
	if err != nil {
		return nil, errs.Wrap("find logs", err)
	}
	// NAME.10 is older than NAME.9.
	slices.SortFunc(rotated, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(b, a)
	})
	return append(rotated, base), nil
}

type logReader struct {
	LogOptions
	stdout, stderr io.Writer
	skip           int   // lines that are before the tail
	offset         int64 // in the newest file: so far it was read
}

// openIfThere opens a file; nil when there is none.
func openIfThere(file string) (*os.File, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return f, errs.Wrap("read log", err)
}

// seekTail counts the lines that are wanted, to find out how many to skip.
func (r *logReader) seekTail(files []string) error {
	total := 0
	for _, file := range files {
		f, err := openIfThere(file)
		if f == nil {
			if err != nil {
				return err
			}
			continue
		}
		in := bufio.NewReaderSize(f, 64<<10)
		for {
			text, err := in.ReadBytes('\n')
			if err != nil {
				break
			}
			if _, ok := r.parse(text); ok {
				total++
			}
		}
		f.Close()
	}
	r.skip = max(0, total-r.Tail)
	return nil
}

// parse reads a line of a file; false when it is not wanted, or damaged by a power cut.
func (r *logReader) parse(text []byte) (l line, wanted bool) {
	if json.Unmarshal(text, &l) != nil {
		return l, false
	}
	if l.Stream == "stderr" && !r.Stderr || l.Stream != "stderr" && !r.Stdout {
		return l, false
	}
	return l, (r.Since.IsZero() || !l.Time.Before(r.Since)) && (r.Until.IsZero() || !l.Time.After(r.Until))
}

func (r *logReader) copyFile(file string) error {
	f, err := openIfThere(file)
	if f == nil {
		return err
	}
	defer f.Close()
	return r.copyLines(f)
}

// copyLines writes the whole lines from the offset on.
func (r *logReader) copyLines(f *os.File) error {
	r.offset = 0
	return r.copyFrom(f)
}

func (r *logReader) copyFrom(f *os.File) error {
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
		l, ok := r.parse(text)
		if !ok {
			continue
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		if err := r.write(&l); err != nil {
			return err
		}
	}
}

func (r *logReader) write(l *line) error {
	to := r.stdout
	if l.Stream == "stderr" {
		to = r.stderr
	}
	prefix := ""
	if r.Timestamps {
		prefix = l.Time.UTC().Format("2006-01-02T15:04:05.000000000Z") + " "
	}
	if r.Details {
		var pairs []string
		for k, v := range l.Attrs {
			pairs = append(pairs, k+"="+v)
		}
		slices.Sort(pairs)
		prefix += strings.Join(pairs, ",") + " "
	}
	_, err := fmt.Fprint(to, prefix, l.Log)
	return err
}

// follow goes on with what is written from now on. The file is watched by inotify(7); a file that was rotated away is
// read to its end before the new one.
func (r *logReader) follow(file string, running func() bool) error {
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return errs.Wrap("watch log", err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, filepath.Dir(file), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF); err != nil {
		return errs.Wrap("watch log", err)
	}
	f, err := openIfThere(file)
	if err != nil {
		return err
	}
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	for {
		goesOn := running() // before reading: what was written until its end is read then
		if f == nil {
			if f, err = openIfThere(file); err != nil {
				return err
			}
		}
		if f != nil {
			if err := r.copyFrom(f); err != nil {
				return err
			}
			if replaced(f, file) {
				f.Close()
				f, r.offset = nil, 0
				continue
			}
		}
		if !goesOn || !r.Until.IsZero() && time.Now().After(r.Until) {
			return nil
		}
		// Half a second at most: a monitor that was killed changes no file.
		fds := []unix.PollFd{{Fd: int32(watch), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, 500); n > 0 {
			_, _ = unix.Read(watch, make([]byte, 4096))
		}
	}
}

// replaced reports whether a name means another file than the open one by now.
func replaced(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(name)
	return err == nil && !os.SameFile(a, b)
}
