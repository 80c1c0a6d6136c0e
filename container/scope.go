//go:build linux

package container

import (
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/linux/spawn"
	"github.com/berth-containers/berth/linux/systemd"
)

// startScope lets systemd make the container's control group. systemd makes none without a process, and init shall be
// born in it, under its limits, in its control group namespace. So a process that does nothing is in it until init is
// (release), and ends with us: whenever we are killed, systemd finds the scope empty and takes it away.
func (c *Container) startScope() error {
	more, err := systemd.FromAnnotations(c.Made.Annotations)
	if err != nil {
		return err
	}
	var pid int
	err = trace.Step("clone3", "systemd makes no control group without a process: this one does nothing until init is there").Do(func() (err error) {
		pid, c.release, err = spawn.Hold()
		return err
	})
	if err != nil {
		return errs.Wrap("hold control group", err)
	}
	err = c.group.StartUnit(pid, "berth-runtime container "+c.ID, more, c.Made.Resources)
	if errs.Is(err, errs.Conflict) {
		c.endHold()
		c.group = nil // it is another's
	}
	return err
}

// endHold ends the process that kept the scope.
func (c *Container) endHold() {
	if c.release != nil {
		c.release()
		c.release = nil
	}
}

// newGroup names the container's control group.
func (c *Container) newGroup(o *CreateOptions) (*cgroup.Group, error) {
	path := c.Made.CgroupsPath
	if o.Systemd {
		return cgroup.NewUnit(path, c.ID, o.Rootless)
	}
	if path == "" {
		path = "/berth-runtime/" + c.ID
	}
	return cgroup.New(path)
}
