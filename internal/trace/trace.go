//go:build linux

package trace

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Record is one step that was made.
type Record struct {
	Process string        `json:"process"`        // the part played: berth, monitor, runtime, init
	Name    string        `json:"name"`           // a system call, or what is done in the kernel's words
	Args    []Arg         `json:"args,omitempty"` // in the order given
	Why     string        `json:"why,omitempty"`  // one line
	At      time.Duration `json:"at"`             // CLOCK_MONOTONIC at its begin, comparable between processes
	Took    time.Duration `json:"took"`
	Err     string        `json:"err,omitempty"` // the cause, when it failed
}

// Arg is one argument of a step.
type Arg struct {
	Key   string `json:"k"`
	Value string `json:"v"`
}

func (r Record) String() string {
	var b strings.Builder
	b.WriteString(r.Name)
	for _, a := range r.Args {
		b.WriteString(" " + a.Key + "=")
		if strings.ContainsAny(a.Value, " \t\n\"") || a.Value == "" {
			b.WriteString(strconv.Quote(a.Value))
		} else {
			b.WriteString(a.Value)
		}
	}
	return b.String()
}

// recorder is this process's list. Kernel state is changed from few goroutines; one lock is enough.
var recorder struct {
	sync.Mutex
	process string
	records []Record
	sink    *os.File
	fault   int           // the step to die before; 0: none
	errno   syscall.Errno // not 0: what that step fails with, instead
	count   int
}

// keep bounds the memory of a process that lives long and makes steps all the time (a monitor).
const keep = 512

// Begin names the part that this process plays. With BERTH_FAULT=PROCESS:N in the environment (tests only) the
// process of that name kills itself with SIGKILL just before its Nth step, counted from 1; with PROCESS:N:E that step is
// not made and fails with the error number E.
func Begin(process string) {
	recorder.Lock()
	defer recorder.Unlock()
	recorder.process = process
	recorder.fault, recorder.errno, recorder.count = 0, 0, 0
	if who, n, ok := strings.Cut(os.Getenv("BERTH_FAULT"), ":"); ok && who == process {
		n, number, _ := strings.Cut(n, ":")
		recorder.fault, _ = strconv.Atoi(n)
		e, _ := strconv.Atoi(number)
		recorder.errno = syscall.Errno(e)
	}
}

// Observe makes every further step appear on f as it ends, one JSON object a line, each written with one write so
// that several processes can share a pipe. nil stops it.
func Observe(f *os.File) {
	recorder.Lock()
	recorder.sink = f
	recorder.Unlock()
}

// Observer returns what [Observe] was given, to hand it on to a child process.
func Observer() *os.File {
	recorder.Lock()
	defer recorder.Unlock()
	return recorder.sink
}

// S is a step that was described and not made yet.
type S struct {
	name, why string
	args      []any
}

// Step describes a step. args are keys and values in turn, like slog's; values are formatted only when needed.
func Step(name, why string, args ...any) S { return S{name, why, args} }

// Do makes the step and returns fn's error as it is.
func (s S) Do(fn func() error) error {
	err := fault()
	at := now()
	if err == nil {
		err = fn()
	}
	s.add(at, now()-at, err)
	return err
}

// Note records something that needed no doing of its own (a flag of a clone, a value kept as it was).
func (s S) Note() { s.add(now(), 0, nil) }

func (s S) add(at, took time.Duration, err error) {
	r := Record{Name: s.name, Why: s.why, At: at, Took: took}
	if n := len(s.args) / 2; n > 0 {
		r.Args = make([]Arg, n)
		for i := range r.Args {
			r.Args[i] = Arg{text(s.args[2*i]), text(s.args[2*i+1])}
		}
	}
	if err != nil {
		r.Err = err.Error()
	}
	recorder.Lock()
	defer recorder.Unlock()
	r.Process = recorder.process
	addLocked(r)
	emitLocked(r)
}

func addLocked(r Record) {
	if len(recorder.records) >= keep {
		recorder.records = append(recorder.records[:0], recorder.records[keep/2:]...)
	}
	recorder.records = append(recorder.records, r)
}

func emitLocked(r Record) {
	if recorder.sink == nil {
		return
	}
	b, err := json.Marshal(r)
	if err != nil {
		return
	}
	// A reader that went away must not end the container's start.
	_, _ = recorder.sink.Write(append(b, '\n'))
}

// fault ends the process, or fails, where a test asked for it.
func fault() error {
	recorder.Lock()
	recorder.count++
	hit, errno := recorder.fault > 0 && recorder.count == recorder.fault, recorder.errno
	recorder.Unlock()
	if hit && errno == 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {}
	}
	if hit {
		return errno
	}
	return nil
}

// Records returns a copy of the steps made so far, also those that [Import] brought.
func Records() []Record {
	recorder.Lock()
	defer recorder.Unlock()
	return append([]Record(nil), recorder.records...)
}

// Import adds steps that another process made and reported. They are not shown to the observer again.
func Import(rs []Record) {
	recorder.Lock()
	defer recorder.Unlock()
	for _, r := range rs {
		addLocked(r)
	}
}

// Reset forgets all steps.
func Reset() {
	recorder.Lock()
	recorder.records = nil
	recorder.Unlock()
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	case []string:
		return strings.Join(v, ",")
	}
	return fmt.Sprint(v)
}

func now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}
