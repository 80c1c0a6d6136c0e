//go:build linux

package monitor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Phases of a container that has a monitor.
const (
	Running    = "running"
	Paused     = "paused"
	Restarting = "restarting" // ended, and about to be started again
)

const (
	statusFile  = "status.json"
	controlFile = "control.sock"
	traceFile   = "trace"  // packed (trace.Pack)
	rootFolder  = "rootfs" // where, in the container's mount namespace only, its root is mounted before it is pivoted to
)

// Status is what a monitor says of its container: status.json, for readers who take no lock.
type Status struct {
	Phase     string        `json:"phase"`
	Pid       int           `json:"pid,omitempty"`
	PidSince  uint64        `json:"pidSince,omitempty"` // start time, so that another process with this pid is not believed to be it
	Monitor   int           `json:"monitor"`
	Since     uint64        `json:"monitorSince"`
	StartedAt time.Time     `json:"startedAt,omitzero"`
	Restarts  int           `json:"restarts,omitempty"`
	Takeovers int           `json:"takeovers,omitempty"` // so many monitors were killed in this life
	Pipes     pipes         `json:"pipes,omitzero"`      // of the program's output; none with a terminal
	Last      *Exit         `json:"last,omitempty"`      // of the run before, when it was started again
	Health    *HealthStatus `json:"health,omitempty"`
}

// HealthStatus is what the checks have found.
type HealthStatus struct {
	Status  string        `json:"status"` // starting, healthy, unhealthy
	Failing int           `json:"failing"`
	Log     []HealthCheck `json:"log,omitempty"` // the last five
}

// HealthCheck is one check.
type HealthCheck struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	ExitCode int       `json:"exitCode"`
	Output   string    `json:"output"`
}

// ReadStatus reads what the monitor of a running container said last. It returns nil when there is no monitor: then
// the container has ended, or somebody has killed its monitor, and orphan says that its program still runs.
func ReadStatus(dir string) (s *Status, orphan bool, err error) {
	s = new(Status)
	err = atomicfile.ReadJSON(filepath.Join(dir, statusFile), s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, errs.Wrap("read status", err)
	}
	if lives(s.Monitor, s.Since) {
		return s, false, nil
	}
	return nil, s.Pid > 0 && lives(s.Pid, s.PidSince), nil
}

// LastStatus reads what a monitor said last, whether it lives or not; nil when it has said nothing.
func LastStatus(dir string) *Status {
	s := new(Status)
	if atomicfile.ReadJSON(filepath.Join(dir, statusFile), s) != nil {
		return nil
	}
	return s
}

func lives(pid int, since uint64) bool {
	start, running := container.StartTime(pid)
	return running && start == since
}

// publish writes the status. The caller holds mu.
func (m *monitor) publish() error {
	if m.gone {
		return nil
	}
	m.status.Monitor = os.Getpid()
	if m.status.Since == 0 {
		m.status.Since, _ = container.StartTime(m.status.Monitor)
	}
	return atomicfile.WriteJSON(filepath.Join(m.Dir, statusFile), &m.status, atomicfile.Fast)
}

// ReadTrace reads the steps that started a running container.
func ReadTrace(dir string) (steps []trace.Record, err error) {
	packed, err := os.ReadFile(filepath.Join(dir, traceFile))
	if err != nil {
		return nil, err
	}
	return trace.Unpack(packed)
}
