//go:build linux

package container

import (
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Kill sends a signal to the container's first process, or to all of its processes. The process is held by a descriptor
// while its start time is compared, so that a number given to another process meanwhile is never signalled.
func (c *Container) Kill(sig unix.Signal, all bool) error {
	if all {
		return c.killAll(sig)
	}
	err := c.signal(sig)
	// With its own pid namespace the end of the first process is the end of all; a shared one has no such rule, and
	// others may be there after the first one's end.
	if sig == unix.SIGKILL && !c.Made.fresh("pid") {
		if pids, perr := c.group.Pids(); perr == nil && len(pids) > 0 {
			return c.group.Kill()
		}
	}
	return err
}

// signal signals the first process.
func (c *Container) signal(sig unix.Signal) error {
	fd, err := unix.PidfdOpen(c.Init, 0)
	if err != nil || !c.alive() {
		if err == nil {
			unix.Close(fd)
		}
		return errs.Text(errs.Conflict, "container not running")
	}
	defer unix.Close(fd)
	err = trace.Step("pidfd_send_signal", "for the container's first process", "signal", unix.SignalName(sig), "pid", c.Init).
		Do(func() error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
	if err == unix.ESRCH {
		return errs.Text(errs.Conflict, "container not running")
	}
	if err != nil {
		return errs.Wrap("signal container "+c.ID, err)
	}
	return nil
}

func (c *Container) killAll(sig unix.Signal) error {
	pids, err := c.group.Pids()
	if err != nil {
		return err
	}
	if len(pids) == 0 { // no error, as in runc: there is nobody left of all
		return nil
	}
	if sig == unix.SIGKILL {
		return c.group.Kill()
	}
	return c.group.Signal(sig)
}

// Pause freezes every process of the container.
func (c *Container) Pause() error {
	switch s := c.Status(); s {
	case specs.StateRunning, specs.StateCreated:
		return c.group.Freeze()
	default:
		return errs.Text(errs.Conflict, fmt.Sprintf("container not running or created: it is %s", s))
	}
}

// Resume lets the processes go on.
func (c *Container) Resume() error {
	if s := c.Status(); s != statePaused {
		return errs.Text(errs.Conflict, fmt.Sprintf("container not paused: it is %s", s))
	}
	return c.group.Thaw()
}

// Update changes the limits of a container; what is nil stays as it is.
func (c *Container) Update(r *specs.LinuxResources) error {
	if c.Status() == specs.StateStopped {
		return errs.Text(errs.Conflict, "container not running")
	}
	change, memory := *r, specs.LinuxResources{Memory: r.Memory}
	if have := c.Made.Resources; have != nil && c.group.V2() && len(r.Devices) > 0 { // a new program has all rules
		change.Devices = slices.Concat(have.Devices, r.Devices)
	} else if have != nil && c.group.Unit() != nil && !c.group.V2() {
		change.Devices = slices.Concat(have.Devices, r.Devices) // systemd writes those that it knows again, whatever is changed
		memory.Devices = have.Devices
	}
	// Memory that is in use is what the kernel may refuse to limit: before anything else, so that nothing has changed then.
	if r.Memory != nil {
		if err := c.group.Set(&memory); err != nil {
			return err
		}
	}
	if err := c.group.Set(&change); err != nil {
		return err
	}
	c.Made.Resources = merge(c.Made.Resources, r)
	return c.save()
}

// merge keeps in the record what was set last.
func merge(old, change *specs.LinuxResources) *specs.LinuxResources {
	if old == nil {
		return change
	}
	out := *old
	if change.CPU != nil {
		out.CPU = change.CPU
	}
	if change.Memory != nil {
		out.Memory = change.Memory
	}
	if change.Pids != nil {
		out.Pids = change.Pids
	}
	if change.BlockIO != nil {
		out.BlockIO = change.BlockIO
	}
	out.Devices = slices.Concat(out.Devices, change.Devices) // later rules change earlier ones
	for _, h := range change.HugepageLimits {
		out.HugepageLimits = append(slices.DeleteFunc(slices.Clone(out.HugepageLimits), func(o specs.LinuxHugepageLimit) bool { return o.Pagesize == h.Pagesize }), h)
	}
	return &out
}
