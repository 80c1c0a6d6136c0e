//go:build linux

package container

import (
	"encoding/json"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/tty"
)

// sendListener gives the seccomp listener to the agent that was asked for, with the state of the process
// (config-linux.md, "The Container Process State").
func (c *Container) sendListener(f *os.File, pid int) error {
	defer f.Close()
	state := specs.ContainerProcessState{Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: pid,
		Metadata: c.Made.Seccomp.ListenerMetadata, State: *c.State()}
	if pid == c.Init {
		state.State.Status = specs.StateCreating // create has not returned yet
	}
	b, err := json.Marshal(&state)
	if err != nil {
		return errs.Wrap("send seccomp listener", err)
	}
	agent, err := tty.Dial(c.Made.Seccomp.ListenerPath)
	if err != nil {
		return errs.Wrap("failed to connect with seccomp agent at "+c.Made.Seccomp.ListenerPath, err)
	}
	defer agent.Close()
	return errs.Wrap("send seccomp listener", unix.Sendmsg(int(agent.Fd()), b, unix.UnixRights(int(f.Fd())), nil, unix.MSG_NOSIGNAL))
}
