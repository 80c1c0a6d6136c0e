//go:build linux

package monitor

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/monitor/event"
)

// Journal is where the monitor writes down what happens to its container, and what is said of it each time.
type Journal struct {
	File       string            `json:"file"`
	Attributes map[string]string `json:"attributes"` // labels, image, name
	After      []After           `json:"after,omitempty"`
}

// After is what is told of something else when nothing of the container's run is left, if its removal does not.
type After struct {
	Kind       string            `json:"kind"`
	Action     string            `json:"action"`
	ID         string            `json:"id"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// tellAfter is called when all is undone; gone says that the container went with its end, kept which volumes did not.
func (m *monitor) tellAfter(gone bool, kept map[string]bool) {
	m.telling.Lock()
	if m.Journal != nil {
		for _, a := range m.Journal.After {
			if a.Action == "destroy" && kept[a.ID] {
				continue
			}
			event.Append(m.Journal.File, event.New(a.Kind, a.Action, a.ID, a.Attributes))
		}
	}
	m.telling.Unlock()
	if gone {
		m.tell("destroy")
	}
}

// tell writes an event of the container down; more are pairs of what this event has to say.
func (m *monitor) tell(action string, more ...string) {
	m.telling.Lock()
	defer m.telling.Unlock()
	if m.Journal == nil {
		return
	}
	event.Append(m.Journal.File, event.New("container", action, m.ID, m.Journal.Attributes, more...))
}

// useJournal is for a container that has got another name.
func (m *monitor) useJournal(j *Journal) {
	m.telling.Lock()
	defer m.telling.Unlock()
	m.Journal = j
}

func (m *monitor) tellKill(sig unix.Signal) { m.tell("kill", "signal", strconv.Itoa(int(sig))) }

// tellEnd is called before anybody else hears of the end: who has, finds it in the journal.
func (m *monitor) tellEnd(exit *Exit) {
	if exit.OOMKilled {
		m.tell("oom")
	}
	lasted := exit.FinishedAt.Sub(exit.StartedAt) / time.Second
	m.tell("die", "exitCode", strconv.Itoa(exit.Code), "execDuration", strconv.FormatInt(int64(lasted), 10))
	if exit.By == "stop" || exit.By == "timeout" || exit.By == "shutdown" {
		m.tell("stop")
	}
}
