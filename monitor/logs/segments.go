//go:build linux

package logs

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/listing"
)

// segment is an open file of a log. One that is compressed is read from a copy that has no name.
type segment struct {
	*os.File
	index int // so often it was rotated
	info  os.FileInfo
}

// coarse is by how much a file's time may be behind that of its last line.
const coarse = time.Second

// openSegments opens the files of a log that may have lines which are not before a time, the oldest first.
func openSegments(base string, since time.Time) (out []*segment, err error) {
	for try := range 100 { // a file that is rotated away while we look makes us look again
		var moved bool
		if out, moved, err = openOnce(base, since, try < 50); err != nil || !moved {
			return out, err
		}
		for _, s := range out {
			s.Close()
		}
		time.Sleep(time.Millisecond)
	}
	return nil, errs.New(errs.Internal, "read log", errors.New("it is rotated faster than it can be opened"))
}

// openOnce opens the files; moved says that some were rotated away meanwhile. With whole the file that is written to
// must be there, as it is but for a moment of each rotation, unless a monitor was killed in that moment.
func openOnce(base string, since time.Time, whole bool) (out []*segment, moved bool, err error) {
	indices, err := rotated(base)
	if err != nil {
		return nil, false, err
	}
	before, _ := os.Stat(base)
	if before == nil && len(indices) > 0 && whole {
		return nil, true, nil
	}
	for _, i := range append(slices.Clone(indices), 0) {
		s, err := openSegment(base, i, since)
		if errors.Is(err, os.ErrNotExist) {
			if i == 0 && before == nil {
				break // nothing was written yet
			}
			return out, true, nil
		}
		if err != nil {
			return out, false, err
		}
		if s != nil {
			out = append(out, s)
		}
	}
	now, err := rotated(base)
	after, _ := os.Stat(base)
	same := before == nil && after == nil || before != nil && after != nil && os.SameFile(before, after)
	return out, !same || !slices.Equal(now, indices), err
}

// rotated are the indices of the files that were rotated away, the oldest, which is the highest, first.
func rotated(base string) (out []int, err error) {
	entries, err := listing.Folder(filepath.Dir(base))
	if err != nil {
		return nil, errs.Wrap("find logs", err)
	}
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), filepath.Base(base)+".")
		if n, err := strconv.Atoi(strings.TrimSuffix(text, packed)); ok && err == nil && n > 0 && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

func segmentName(base string, i int) string {
	if i == 0 {
		return base
	}
	return base + "." + strconv.Itoa(i)
}

// openSegment opens a file; nil when all of it is before a time.
func openSegment(base string, i int, since time.Time) (*segment, error) {
	f, err := os.Open(segmentName(base, i))
	compressed := errors.Is(err, os.ErrNotExist) && i > 0
	if compressed {
		f, err = os.Open(segmentName(base, i) + packed)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, errs.Wrap("read log", err)
	}
	if i > 0 && info.ModTime().Add(coarse).Before(since) {
		f.Close()
		return nil, nil
	}
	if compressed {
		plain, err := unpack(f)
		f.Close()
		if err != nil {
			return nil, err
		}
		f = plain
	}
	return &segment{f, i, info}, nil
}

// unpack makes a copy of what a compressed file holds; it is gone when it is closed.
func unpack(f *os.File) (*os.File, error) {
	in, err := gzip.NewReader(f)
	if err != nil {
		return nil, errs.Wrap("read log", err)
	}
	fd, err := unix.MemfdCreate("berth-log", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, errs.Wrap("read log", os.NewSyscallError("memfd_create", err))
	}
	out := os.NewFile(uintptr(fd), f.Name())
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return nil, errs.Wrap("read log "+f.Name(), err)
	}
	return out, nil
}

// follow goes on with what is written from now on. The folder is watched by inotify(7); a file that was rotated away is
// read to its end before the next one. It closes s.
func (r *reader) follow(s *segment, running func() bool) (err error) {
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return errs.Wrap("watch log", err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, filepath.Dir(r.base), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF); err != nil {
		return errs.Wrap("watch log", err)
	}
	defer func() {
		if s != nil {
			s.Close()
		}
	}()
	for {
		goesOn := running() // before reading: what was written until its end is read then
		if s == nil {
			if s, err = openSegment(r.base, 0, time.Time{}); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if s != nil {
			next, err := r.advance(s)
			if err != nil {
				return err
			}
			if next != nil {
				s.Close()
				s, r.offset = next, 0
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

// advance hands over what was added to a file, and returns the next one if this one was rotated away.
func (r *reader) advance(s *segment) (next *segment, err error) {
	rotatedAway := s.replaced(r.base)
	if err := r.copyFrom(s.File); err != nil || !rotatedAway { // nothing is added to it any more
		return nil, err
	}
	now, err := s.Stat()
	if err != nil {
		return nil, errs.Wrap("read log", err)
	}
	if s.index == 0 { // its time is the last line's; a copy of a compressed one keeps what that had
		s.info = now
	}
	all, err := openSegments(r.base, time.Time{})
	if err != nil {
		return nil, err
	}
	// Where it is by now, or the oldest that is left, if it is gone already.
	at := slices.IndexFunc(all, func(o *segment) bool { return os.SameFile(o.info, s.info) })
	if at < 0 { // compressed, with its time
		at = slices.IndexFunc(all, func(o *segment) bool { return o.info.ModTime().Equal(s.info.ModTime()) })
	}
	for i, o := range all {
		if i != at+1 {
			o.Close()
		} else {
			next = o
		}
	}
	return next, nil
}

// replaced reports whether another file than this one is written to by now.
func (s *segment) replaced(base string) bool {
	b, err := os.Stat(base)
	return err == nil && (s.index > 0 || !os.SameFile(s.info, b))
}
