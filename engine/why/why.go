//go:build linux

// Package why finds out why a container ended. It collects what is known (how the program ended, who asked for it, what
// the control group saw, the events, the last lines of output, how process 1 is made, the kernel's log) and puts it
// before a list of rules; the first that fits gives the verdict.
package why

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/engine"
)

// Certainty of a verdict.
const (
	Certain = "certain" // it was recorded
	Likely  = "likely"  // what is known fits nothing else that is common
	Guess   = "a guess" // one of several explanations
)

// Report is the answer.
type Report struct {
	ID        string
	Name      string
	State     string   // as `ps` says
	Verdict   string   // one sentence
	Certainty string   // one of the constants
	Fix       []string `json:",omitempty"` // commands, or what to change
	Facts     []Fact
	History   []Happening `json:",omitempty"` // what the journal tells of it, the newest last
	Log       []string    `json:",omitempty"` // the last lines of output
}

// Fact is one thing that was found.
type Fact struct{ What, Value string }

// Happening is an event of the container.
type Happening struct {
	Time   time.Time
	Action string
	Detail string `json:",omitempty"`
}

// evidence is what the rules look at.
type evidence struct {
	c       *engine.Container
	in      *engine.Inspection
	exit    *engine.Exit // nil: it has never ended
	events  []Happening
	log     []string
	kernel  string // the kernel's own line about a global lack of memory that killed the program; ""
	program string // process 1, without its folder
}

const (
	logLines = 10
	history  = 12
)

// Explain reports on a container.
func Explain(e *engine.Engine, c *engine.Container) (*Report, error) {
	v := &evidence{c: c, in: c.Inspect(false), exit: c.Last()}
	if err := v.readEvents(e); err != nil {
		return nil, err
	}
	v.readLog()
	v.program = path.Base(v.in.Path)
	if v.exit != nil && (v.exit.Signal == 9 || v.exit.Unknown) && !v.exit.OOMKilled && v.exit.By == "" {
		v.kernel = kernelKilled(v.exit.Pid)
	}
	r := &Report{ID: c.ID, Name: c.Name, State: string(v.in.State.Status), Log: v.log, History: v.events}
	f := v.judge()
	r.Verdict, r.Certainty, r.Fix = f.verdict, f.certainty, f.fix
	r.Facts = v.facts()
	return r, nil
}

// readEvents takes the last happenings of the container from the journal.
func (v *evidence) readEvents(e *engine.Engine) error {
	o := engine.EventOptions{Filters: engine.Filters{"container": {v.c.ID}}}
	o.Since, o.Until = v.c.Created.Add(-time.Second), time.Now()
	err := e.Events(context.Background(), o, func(ev engine.Event) error {
		if strings.HasPrefix(ev.Action, "exec_") {
			return nil
		}
		h := Happening{Time: time.Unix(0, ev.TimeNano), Action: ev.Action}
		for _, key := range []string{"signal", "exitCode", "error"} {
			if value := ev.Actor.Attributes[key]; value != "" {
				h.Detail = strings.TrimSpace(h.Detail + " " + key + "=" + value)
			}
		}
		if v.events = append(v.events, h); len(v.events) > history {
			v.events = v.events[1:]
		}
		return nil
	})
	return err
}

func (v *evidence) readLog() {
	var out bytes.Buffer
	keep := func(l *engine.LogEntry) error {
		_, err := out.Write(l.Log)
		return err
	}
	if v.c.Logs(engine.LogOptions{Stdout: true, Stderr: true, Tail: logLines}, keep) != nil {
		return // a driver that cannot be read
	}
	if text := strings.TrimRight(out.String(), "\n"); text != "" {
		v.log = strings.Split(text, "\n")
	}
}

// signals that were sent since the last start, in their order.
func (v *evidence) signals() []string {
	var out []string
	for _, h := range v.events {
		switch {
		case h.Action == "start":
			out = nil
		case h.Action == "kill":
			out = append(out, strings.TrimPrefix(h.Detail, "signal="))
		}
	}
	return out
}

// facts are told whatever the verdict is.
func (v *evidence) facts() []Fact {
	out := []Fact{{"command", strings.Join(append([]string{v.in.Path}, v.in.Args...), " ")}, {"process 1", v.processOne()}}
	add := func(what, format string, args ...any) { out = append(out, Fact{what, fmt.Sprintf(format, args...)}) }
	if x := v.exit; x != nil {
		if x.Unknown {
			add("exit code", "not known, shown as %d", x.Code)
		} else if x.Signal != 0 {
			add("ended by", "signal %d (%s), exit code %d", x.Signal, signalName(x.Signal), x.Code)
		} else {
			add("exit code", "%d", x.Code)
		}
		if !x.StartedAt.IsZero() {
			add("lived", "%s, until %s", x.FinishedAt.Sub(x.StartedAt).Round(time.Millisecond), x.FinishedAt.Local().Format(time.DateTime))
		}
		if x.By != "" {
			add("asked for by", "%s", x.By)
		}
		if x.Error != "" {
			add("error", "%s", x.Error)
		}
		out = append(out, v.marks()...)
	}
	if v.kernel != "" {
		add("kernel log", "%s", v.kernel)
	}
	if p := v.in.HostConfig.RestartPolicy; p.Name != "" && p.Name != "no" || v.in.RestartCount > 0 {
		add("restarts", "%d, policy %s", v.in.RestartCount, p.Name)
	}
	if h := v.in.State.Health; h != nil && len(h.Log) > 0 {
		add("health", "%s, last check: exit code %d, %s", h.Status, h.Log[len(h.Log)-1].ExitCode, firstLine(h.Log[len(h.Log)-1].Output))
	}
	return out
}

func (v *evidence) marks() (out []Fact) {
	m := v.exit.Marks
	if m == nil {
		return nil
	}
	add := func(what, format string, args ...any) { out = append(out, Fact{what, fmt.Sprintf(format, args...)}) }
	if m.MemoryPeak > 0 {
		limit := "no limit"
		if m.MemoryLimit > 0 {
			limit = "limit " + size(m.MemoryLimit)
		}
		if m.MemoryHits > 0 {
			limit += fmt.Sprintf(", met %d times", m.MemoryHits)
		}
		add("memory", "%s at most; %s", size(m.MemoryPeak), limit)
	}
	if m.OOMKills > 0 {
		add("killed for lack of memory", "%d of the container's processes", m.OOMKills)
	}
	if m.PidsHits > 0 {
		add("processes", "%d forks were refused at the limit of %d", m.PidsHits, m.PidsLimit)
	}
	if m.CPUThrottled > 0 {
		add("CPU", "held back in %d of %d periods, %s in all", m.CPUThrottled, m.CPUPeriods, time.Duration(m.ThrottledTime).Round(time.Millisecond))
	}
	return out
}

// processOne says how the container's first process is made, because a first process is special: the kernel does not
// give it the default actions of signals (pid_namespaces(7)), and it has to reap orphans.
func (v *evidence) processOne() string {
	switch {
	case v.hasInit():
		return "berth's init (--init), which passes signals on and reaps orphans"
	case v.shellForm():
		return v.program + " -c: a shell that runs the command as its child, and does not pass signals on"
	case isShell(v.program):
		return v.program + ": a shell"
	}
	return v.program
}

func (v *evidence) hasInit() bool {
	init := v.in.HostConfig.Init
	return init != nil && *init
}

func (v *evidence) shellForm() bool {
	return isShell(v.program) && len(v.in.Args) > 1 && v.in.Args[0] == "-c"
}

func isShell(program string) bool {
	switch program {
	case "sh", "ash", "bash", "dash", "zsh", "ksh":
		return true
	}
	return false
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// running reports whether there is nothing to explain yet.
func running(s docker.ContainerState) bool {
	return s == docker.StateRunning || s == docker.StatePaused
}
