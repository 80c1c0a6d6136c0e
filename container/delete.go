//go:build linux

package container

import (
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Delete removes a stopped container: its group, its state. With force a running one is killed first. It may be called
// again, and after a creator that was killed: every part is removed if it is there.
func (c *Container) Delete(force bool) error {
	if s := c.Status(); s != specs.StateStopped && s != specs.StateCreating && !force {
		return errs.Text(errs.Conflict, "cannot delete container "+c.ID+" that is not stopped: "+string(s))
	}
	if err := c.group.Kill(); err != nil {
		return err
	}
	c.closeFiles()
	if err := c.group.Delete(); err != nil {
		return err
	}
	// The hooks come after the container is gone; one that fails stops nothing (runtime.md, "Lifecycle").
	for _, h := range c.hooks().Poststop {
		if err := c.runHooks([]specs.Hook{h}, "poststop"); err != nil {
			c.Warnings = append(c.Warnings, err.Error())
		}
	}
	err := trace.Step("unlink", "nothing of the container is left", "dir", c.dir).Do(func() error { return os.RemoveAll(c.dir) })
	if err != nil {
		return errs.Wrap("delete container "+c.ID, err)
	}
	return nil
}

// Remove deletes what is left of a container whose state cannot be read any more: its folder of states.
func Remove(root, id string) error {
	if err := CheckID(id); err != nil {
		return err
	}
	return errs.Wrap("delete container "+id, os.RemoveAll(root+"/"+id))
}
