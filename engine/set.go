//go:build linux

package engine

import (
	"fmt"
	"maps"
	"path"
	"slices"

	docker "github.com/moby/moby/api/types/mount"

	"github.com/berth-containers/berth/engine/change"
	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/engine/ports"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/monitor"
	netstore "github.com/berth-containers/berth/network"
)

// Changes are what [Container.Set] changes of a container that exists. What is empty stays.
type Changes struct {
	UpdateOptions
	Config                // Mounts, Binds, Tmpfs, MountOwners, PortBindings, Labels, Env (NAME removes one), User, WorkingDir, Hostname
	Unmount      []string // targets
	Unpublish    []string // CONTAINER_PORT[/PROTOCOL] or HOST_PORT:CONTAINER_PORT[/PROTOCOL]
	RemoveLabels []string
}

// NeedsStart reports whether some change takes a new process: a running container is stopped and started with all it has.
func (o *Changes) NeedsStart() bool {
	return len(o.Env) > 0 || o.User != "" || o.WorkingDir != "" || o.Hostname != ""
}

// Set changes a container. What a running one cannot take is done by a stop and a start of the same container, with its
// name, id, write layer, volumes and networks. If it fails, the container is as before.
func (c *Container) Set(o Changes) (err error) {
	old, err := c.e.open(c.ID)
	if err != nil {
		return err
	}
	again := o.NeedsStart() && c.Running()
	if again && c.HostConfig.AutoRemove {
		return errs.Text(errs.Conflict, "container "+c.Name+" cannot be started anew: with --rm it goes with its end")
	}
	added, undo, err := c.setMounts(&o, !again)
	defer func() {
		if err != nil {
			undo()
			c.record = old.record
			_ = c.save()
		}
	}()
	if err != nil {
		return err
	}
	if err := c.setPorts(&o, !again); err != nil {
		return err
	}
	c.Labels = maps.Clone(c.Labels)
	maps.Copy(c.Labels, o.Labels)
	for _, l := range o.RemoveLabels {
		delete(c.Labels, l)
	}
	c.setProcess(&o)
	if err := c.Update(o.UpdateOptions); err != nil { // saves everything
		return err
	}
	switch {
	case again:
		if err = c.Restart(StopOptions{}); err != nil {
			c.record = old.record
			if serr := c.save(); serr == nil {
				_, _ = c.Start(StartOptions{})
			}
		}
		return err
	case c.Running() && (len(added) > 0 || len(o.Unmount) > 0):
		return c.replan()
	}
	return nil
}

// setProcess changes what only a new process takes.
func (c *Container) setProcess(o *Changes) {
	c.Env = change.MergeEnv(c.Env, o.Env)
	c.Process.Env = change.MergeEnv(c.Process.Env, o.Env)
	if o.User != "" {
		c.User, c.Process.User = o.User, o.User
	}
	if o.WorkingDir != "" {
		c.WorkingDir, c.Process.Cwd = o.WorkingDir, path.Join("/", o.WorkingDir)
	}
	if o.Hostname != "" {
		c.Hostname = o.Hostname
	}
}

// setMounts adds and removes mounts, in a running container if live is set; undo takes back what was done.
func (c *Container) setMounts(o *Changes, live bool) (added []string, undo func(), err error) {
	undo = func() {}
	before := slices.Clone(c.Mounts)
	for _, target := range o.Unmount {
		m := c.mountAt(path.Clean(target))
		if m == nil {
			return nil, undo, errs.Text(errs.NotFound, "unmount "+target+": the container has no mount there")
		}
		if pid, perr := c.pid(); perr == nil && live {
			if err := mount.DetachInside(pid, m.Destination); err != nil {
				return nil, undo, err
			}
		}
		if m.Name != "" {
			defer c.e.volumes.Release(m.Name, c.ID)
		}
		c.Mounts = slices.DeleteFunc(c.Mounts, func(have mountpoint.Point) bool { return have.Destination == path.Clean(target) })
	}
	c.MountOwners = maps.Clone(c.MountOwners)
	for target, owner := range o.MountOwners {
		if c.MountOwners == nil {
			c.MountOwners = map[string]mountpoint.Owner{}
		}
		c.MountOwners[target] = owner
	}
	all := c.HostConfig
	c.HostConfig.Binds, c.HostConfig.Mounts, c.HostConfig.Tmpfs, c.HostConfig.VolumesFrom = o.HostConfig.Binds, o.HostConfig.Mounts, o.HostConfig.Tmpfs, nil
	err = c.findMounts()
	c.HostConfig = all
	c.HostConfig.Binds, c.HostConfig.Mounts = append(slices.Clone(all.Binds), o.HostConfig.Binds...), append(slices.Clone(all.Mounts), o.HostConfig.Mounts...)
	for _, m := range c.Mounts {
		if !slices.ContainsFunc(before, func(have mountpoint.Point) bool { return have.Destination == m.Destination }) {
			added = append(added, m.Destination)
		}
	}
	undo = func() {
		pid, perr := c.pid()
		for _, target := range added {
			if perr == nil && live {
				_ = mount.DetachInside(pid, target)
			}
			if m := c.mountAt(target); m != nil && m.Name != "" {
				c.e.volumes.Release(m.Name, c.ID)
			}
		}
	}
	if err != nil {
		return added, undo, err
	}
	if pid, perr := c.pid(); perr == nil && live && len(added) > 0 {
		return added, undo, c.attachMounts(pid, added)
	}
	return added, undo, nil
}

// attachMounts brings mounts into the running container.
func (c *Container) attachMounts(pid int, targets []string) error {
	spec, err := c.spec()
	if err != nil {
		return err
	}
	plan, err := c.plan(spec)
	if err != nil {
		return err
	}
	owner := uint32(0)
	if c.IDRange != nil {
		owner = c.IDRange.UID
	}
	for _, target := range targets {
		if m := c.mountAt(target); m.Type == docker.TypeImage || m.Type == mountpoint.TypeOverlay || m.Type == docker.TypeTmpfs && owner != 0 {
			return errs.Text(errs.Unsupported, fmt.Sprintf("mount on %s: a mount of type %s comes into a container with its start only", target, m.Type)).
				WithHint("stop the container, `berth set` it, and start it")
		}
		tree, err := plan.OpenMount(target)
		if err != nil {
			return err
		}
		err = tree.AttachInside(pid, target, owner)
		tree.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// replan tells the monitor what further lives of the container have.
func (c *Container) replan() error {
	spec, err := c.spec()
	if err != nil {
		return err
	}
	plan, err := c.plan(spec)
	if err != nil {
		return err
	}
	return c.ask(monitor.Request{Op: "update", Plan: plan})
}

// setPorts publishes ports, and others no more.
func (c *Container) setPorts(o *Changes, live bool) error {
	if len(o.HostConfig.PortBindings)+len(o.Unpublish) == 0 {
		return nil
	}
	if !c.hasBridge() {
		return errs.Text(errs.Conflict, "publish ports: the container has no network of its own")
	}
	live = live && c.Running()
	bindings, closed, err := ports.Change(c.HostConfig.PortBindings, o.HostConfig.PortBindings, o.Unpublish)
	if err != nil {
		return err
	}
	if live && len(o.Unpublish) > 0 {
		if err := c.e.networks.Unpublish(c.ID, func(p netstore.Port) bool { return closed(p.ContainerPort, p.Protocol, p.HostPort) }); err != nil {
			return err
		}
	}
	added := Container{e: c.e}
	added.HostConfig.PortBindings, added.LANPorts = o.HostConfig.PortBindings, o.LANPorts
	published, err := added.ports()
	if err != nil {
		return err
	}
	if live && len(published) > 0 {
		_, undo, err := c.e.networks.Publish(c.ID, published)
		if err != nil {
			return err
		}
		if err := c.ask(monitor.Request{Op: "undo", Undo: &monitor.Undo{Batches: undo.Batches}}); err != nil {
			undo.Run()
			return err
		}
	}
	c.HostConfig.PortBindings = bindings
	for key := range o.LANPorts {
		if c.LANPorts == nil {
			c.LANPorts = map[string]bool{}
		}
		c.LANPorts[key] = true
	}
	return nil
}
