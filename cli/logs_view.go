//go:build linux

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/linux/tty"
)

// logView shows the logs of one or several containers.
type logView struct {
	a                   *app
	options             engine.LogOptions
	timestamps, details bool
	grep                *regexp.Regexp
}

// longestMatched is how much of a line --grep looks at.
const longestMatched = 1 << 20

// logSource is the log of one container.
type logSource struct {
	*logView
	c       *engine.Container
	prefix  string               // before each line; "" when there is only one container
	inLine  [2]bool              // the last thing written to stdout, stderr was a part of a line
	pending [2]*engine.LogEntry  // parts of a line that --grep has not seen whole
	entries chan engine.LogEntry // what was read, in order; closed at its end
	err     error                // when entries is closed
}

func (v *logView) show(names []string) error {
	e, err := v.a.open()
	if err != nil {
		return err
	}
	var sources []*logSource
	width := 0
	for _, name := range names {
		c, err := e.Lookup(name)
		if err != nil {
			return err
		}
		sources = append(sources, &logSource{logView: v, c: c, entries: make(chan engine.LogEntry)})
		width = max(width, len(c.Name))
	}
	for _, s := range sources {
		v.a.sayLost(s.c)
	}
	if len(sources) == 1 {
		return sources[0].readAll(sources[0].write)
	}
	colours := os.Getenv("NO_COLOR") == "" && v.a.out == io.Writer(os.Stdout) && tty.IsTerminal(os.Stdout)
	for i, s := range sources {
		s.prefix = fmt.Sprintf("%-*s | ", width, s.c.Name)
		if colours {
			s.prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", 31+(i+1)%6, s.prefix)
		}
	}
	if v.options.Follow {
		return v.together(sources)
	}
	return v.merge(sources)
}

// readAll reads a container's log and gives each entry that passes --grep to a function.
func (s *logSource) readAll(show func(*engine.LogEntry) error) error {
	matches := func(e *engine.LogEntry) bool { return s.grep.Match(bytes.TrimSuffix(e.Log, []byte("\n"))) }
	err := s.c.Logs(s.options, func(e *engine.LogEntry) error {
		if s.grep == nil {
			return show(e)
		}
		stream := s.stream(e)
		if p := s.pending[stream]; p != nil { // what came first has the line's time
			p.Log = append(p.Log, e.Log...)
			e = p
		}
		if !bytes.HasSuffix(e.Log, []byte("\n")) && len(e.Log) < longestMatched {
			s.pending[stream] = e
			return nil
		}
		s.pending[stream] = nil
		if !matches(e) {
			return nil
		}
		return show(e)
	})
	for _, e := range s.pending { // a last line without an end
		if err == nil && e != nil && matches(e) {
			err = show(e)
		}
	}
	return err
}

func (s *logSource) stream(e *engine.LogEntry) int {
	if e.Stderr {
		return 1
	}
	return 0
}

// write shows an entry.
func (s *logSource) write(e *engine.LogEntry) error {
	to, stream := s.a.out, s.stream(e)
	if e.Stderr {
		to = s.a.err
	}
	begin := e.Prefix(s.timestamps, s.details)
	if s.prefix != "" {
		begin = ""
		if !s.inLine[stream] {
			begin = s.prefix + e.Prefix(s.timestamps, s.details)
		}
		s.inLine[stream] = !bytes.HasSuffix(e.Log, []byte("\n"))
	}
	_, err := to.Write(append([]byte(begin), e.Log...))
	return err
}

// endLine ends a line of which a part was shown, because another container's comes next.
func (s *logSource) endLine() {
	for stream, to := range []io.Writer{s.a.out, s.a.err} {
		if s.inLine[stream] {
			fmt.Fprintln(to)
			s.inLine[stream] = false
		}
	}
}

// together shows what several containers say as it comes.
func (v *logView) together(sources []*logSource) error {
	var one sync.Mutex
	var last *logSource
	failed := make([]error, len(sources))
	var all sync.WaitGroup
	for i, s := range sources {
		all.Go(func() {
			failed[i] = s.readAll(func(e *engine.LogEntry) error {
				one.Lock()
				defer one.Unlock()
				if last != nil && last != s {
					last.endLine()
				}
				last = s
				return s.write(e)
			})
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// merge shows what several containers have said in the order of its times.
func (v *logView) merge(sources []*logSource) error {
	done := make(chan struct{})
	defer close(done)
	heads := make([]*engine.LogEntry, len(sources))
	next := func(i int) {
		heads[i] = nil
		if e, ok := <-sources[i].entries; ok {
			heads[i] = &e
		}
	}
	for _, s := range sources {
		go func() {
			s.err = s.readAll(func(e *engine.LogEntry) error {
				select {
				case s.entries <- *e:
					return nil
				case <-done:
					return io.ErrClosedPipe
				}
			})
			close(s.entries)
		}()
	}
	for i := range sources {
		next(i)
	}
	last := -1
	for {
		first := -1
		for i, h := range heads {
			if h != nil && (first < 0 || h.Time.Before(heads[first].Time)) {
				first = i
			}
		}
		if first < 0 {
			break
		}
		if last >= 0 && last != first {
			sources[last].endLine()
		}
		if err := sources[first].write(heads[first]); err != nil {
			return err
		}
		last = first
		next(first)
	}
	var failed []error
	for _, s := range sources {
		failed = append(failed, s.err)
	}
	return errors.Join(failed...)
}
