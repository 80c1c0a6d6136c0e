//go:build linux

package container

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/listing"
	"github.com/berth-containers/berth/linux/cgroup"
)

// record is state.json: what a later process needs of a container. Whether it runs is not in it, because only the
// kernel knows.
type record struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"`
	Init        int               `json:"pid"`
	Since       uint64            `json:"startTime"` // of the pid, in clock ticks since boot: proc(5), stat field 22
	Created     time.Time         `json:"created"`
	Cgroup      cgroup.State      `json:"cgroup"`
	Made        *Plan             `json:"plan"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Container is one container, of this process or an earlier one.
type Container struct {
	record
	dir   string // <root>/<id>
	group *cgroup.Group

	Warnings []string // what has failed and stopped nothing

	// Of the process that made it:
	steps   []byte  // of init, packed; until somebody takes them
	talk    channel // with init, until it has executed; -1 otherwise
	pidfd   *os.File
	console *os.File
	release func() // ends what keeps a scope of systemd until init is in it
}

const (
	stateFile = "state.json"
	startFIFO = "exec.fifo"
)

// CheckID refuses ids that could be a path (CVE-2019-16884's class); they are file names.
func CheckID(id string) error {
	ok := id != "" && len(id) <= 1024 && id != "." && id != ".."
	for _, c := range []byte(id) {
		ok = ok && (c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("_+-.", c) >= 0)
	}
	if !ok {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid container ID %q: only [a-zA-Z0-9_+.-] are allowed", id))
	}
	return nil
}

// Open finds a container by its id below a folder of states.
func Open(root, id string) (*Container, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	c := &Container{dir: filepath.Join(root, id), talk: -1}
	err := atomicfile.ReadJSON(filepath.Join(c.dir, stateFile), &c.record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Text(errs.NotFound, "container "+id+" does not exist")
	}
	if err != nil {
		return nil, errs.Wrap("open container "+id, err)
	}
	c.group = cgroup.Load(c.Cgroup)
	return c, nil
}

// List finds all containers below a folder of states; damaged ones are left out.
func List(root string) ([]*Container, error) {
	es, err := listing.Folder(root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap("list containers", err)
	}
	var out []*Container
	for _, e := range es {
		if c, err := Open(root, e.Name()); err == nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// save writes state.json. It lies in memory and is gone with the boot: there is no need for a disk's promise.
func (c *Container) save() error {
	return errs.Wrap("write state", atomicfile.WriteJSON(filepath.Join(c.dir, stateFile), &c.record, atomicfile.Fast))
}

// StartTime is when a process was started, in clock ticks since boot (proc(5), stat field 22), and whether it still
// runs: a zombie does not.
func StartTime(pid int) (ticks uint64, running bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	// The name in the second field may hold anything, also ") ".
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 20 {
		return 0, false
	}
	ticks, err = strconv.ParseUint(f[19], 10, 64)
	return ticks, err == nil && f[0] != "Z" && f[0] != "X"
}

// alive reports whether the container's first process still is the one that was started: a number that was given to
// another process since is not it.
func (c *Container) alive() bool {
	start, running := StartTime(c.Init)
	return running && start == c.Since
}

// statePaused is a status beside the specification's.
const statePaused specs.ContainerState = "paused"

// Status is what the kernel says of the container now.
func (c *Container) Status() specs.ContainerState {
	switch {
	case c.Init == 0:
		return specs.StateCreating
	case !c.alive():
		return specs.StateStopped
	case c.group.Frosty():
		return statePaused
	case c.waits():
		return specs.StateCreated
	}
	return specs.StateRunning
}

// waits reports whether init still waits for its go.
func (c *Container) waits() bool {
	_, err := os.Lstat(filepath.Join(c.dir, startFIFO))
	return err == nil || c.talk >= 0
}

// State is the specification's state (runtime.md, "State").
func (c *Container) State() *specs.State {
	s := &specs.State{Version: c.Version, ID: c.ID, Status: c.Status(), Bundle: c.Bundle, Annotations: c.Annotations}
	if s.Status != specs.StateStopped {
		s.Pid = c.Init
	}
	return s
}

// Group is the container's control group.
func (c *Container) Group() *cgroup.Group { return c.group }

// TakeSteps returns the steps that init has made, packed ([trace.Unpack]), and forgets them.
func (c *Container) TakeSteps() []byte {
	steps := c.steps
	c.steps = nil
	return steps
}

// Plan is what the container was made of.
func (c *Container) Plan() *Plan { return c.Made }

// Pid is the pid of the container's first process on the host.
func (c *Container) Pid() int { return c.Init }

// PidFD is a descriptor of the container's first process (pidfd_open(2)); it becomes readable with its end. It is there
// in the process that made the container.
func (c *Container) PidFD() *os.File { return c.pidfd }

// Console is the master of the container's terminal, in the process that made it; nil without one.
func (c *Container) Console() *os.File { return c.console }

// OOMKills counts the container's processes that were killed for lack of memory.
func (c *Container) OOMKills() uint64 { return c.group.OOMKills() }

// Wait reaps the container's first process, or, in a process that has not made it, hears of its end (see [Adopt]).
func (c *Container) Wait() (unix.WaitStatus, error) {
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(c.Init, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err == unix.ECHILD {
			return c.waitForeign()
		}
		if err != nil {
			return 0, errs.Wrap("wait for container "+c.ID, err)
		}
		if pid == c.Init && (status.Exited() || status.Signaled()) {
			return status, nil
		}
	}
}
