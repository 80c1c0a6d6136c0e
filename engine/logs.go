//go:build linux

package engine

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

// Logs writes what the container has said. With Follow it goes on until the container ends, or the writers fail.
func (c *Container) Logs(o LogOptions, stdout, stderr io.Writer) error {
	if c.HostConfig.LogConfig.Type == "none" {
		return errs.Text(errs.Unsupported, "configured logging driver does not support reading")
	}
	files, err := c.logFiles()
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
		return r.follow(c)
	}
	return nil
}

// logFiles are the log's files that are there, the oldest first.
func (c *Container) logFiles() ([]string, error) {
	base := filepath.Join(c.dataDir(), logName)
	rotated, err := filepath.Glob(base + ".*")
	if err != nil {
		return nil, errs.Wrap("find logs", err)
	}
	slices.SortFunc(rotated, func(a, b string) int { return len(b)*1000 + strings.Compare(b, a) - len(a)*1000 })
	return append(rotated, base), nil
}

type logReader struct {
	LogOptions
	stdout, stderr io.Writer
	skip           int   // lines that are before the tail
	offset         int64 // in the newest file: so far it was read
}

func open(file string) (*os.File, error) {
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
		f, err := open(file)
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
	f, err := open(file)
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
func (r *logReader) follow(c *Container) error {
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return errs.Wrap("watch log", err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, c.dataDir(), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF); err != nil {
		return errs.Wrap("watch log", err)
	}
	file := filepath.Join(c.dataDir(), logName)
	f, err := open(file)
	if err != nil {
		return err
	}
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	for {
		status, _, _ := c.now() // before reading: what was written until its end is read then
		if f == nil {
			if f, err = open(file); err != nil {
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
		if status == nil || !r.Until.IsZero() && time.Now().After(r.Until) {
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
