//go:build linux

package container

import (
	"encoding/json"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// sendListener gives the seccomp listener to the agent that was asked for, with the state of the process
// (config-linux.md, "The Container Process State").
func (c *Container) sendListener(f *os.File) error {
	state := specs.ContainerProcessState{Version: specs.Version, Fds: []string{specs.SeccompFdName}, Pid: c.Init,
		Metadata: c.Made.Seccomp.ListenerMetadata, State: *c.State()}
	b, err := json.Marshal(&state)
	if err != nil {
		return errs.Wrap("send seccomp listener", err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap("send seccomp listener", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: c.Made.Seccomp.ListenerPath}); err != nil {
		return errs.Wrap("connect to "+c.Made.Seccomp.ListenerPath, err)
	}
	return errs.Wrap("send seccomp listener", unix.Sendmsg(fd, b, unix.UnixRights(int(f.Fd())), nil, unix.MSG_NOSIGNAL))
}
