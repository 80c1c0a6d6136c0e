//go:build linux

package engine

import (
	"maps"
	"os"
	"path"
	"slices"

	"github.com/berth-containers/berth/engine/change"
	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/engine/ports"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/socket"
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
	m := &mountChange{c: c}
	if pid, err := c.pid(); err == nil && !again {
		m.pid = pid
	}
	defer func() {
		if err == nil {
			m.done()
			return
		}
		c.record = old.record
		_ = c.save()
		m.undo()
	}()
	if err := m.do(&o); err != nil {
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
	case m.pid > 0 && len(m.added)+len(m.removed) > 0:
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

// mountChange is a change of a container's mounts, of one that runs in its mount namespace.
type mountChange struct {
	c              *Container
	pid            int // of the running container; 0: nothing is mounted yet
	added, removed []mountpoint.Point
}

// do removes and adds mounts.
func (m *mountChange) do(o *Changes) error {
	c := m.c
	for _, target := range o.Unmount {
		have := c.mountAt(path.Clean(target))
		if have == nil {
			return errs.Text(errs.NotFound, "unmount "+target+": the container has no mount there")
		}
		if m.pid > 0 {
			if err := mount.DetachInside(m.pid, have.Destination); err != nil {
				return err
			}
		}
		m.removed = append(m.removed, *have)
		c.Mounts = slices.DeleteFunc(slices.Clone(c.Mounts), func(p mountpoint.Point) bool { return p.Destination == path.Clean(target) })
	}
	c.MountOwners = maps.Clone(c.MountOwners)
	for target, owner := range o.MountOwners {
		if c.MountOwners == nil {
			c.MountOwners = map[string]mountpoint.Owner{}
		}
		c.MountOwners[target] = owner
	}
	before, all, volumes := slices.Clone(c.Mounts), c.HostConfig, c.Volumes
	c.Volumes, c.HostConfig.Binds, c.HostConfig.Mounts, c.HostConfig.Tmpfs, c.HostConfig.VolumesFrom = nil, o.HostConfig.Binds, o.HostConfig.Mounts, o.HostConfig.Tmpfs, nil
	err := c.findMounts()
	c.HostConfig, c.Volumes = all, volumes
	for _, p := range c.Mounts {
		if !slices.ContainsFunc(before, func(have mountpoint.Point) bool { return have.Destination == p.Destination }) {
			m.added = append(m.added, p)
		}
	}
	if err != nil {
		return err
	}
	mountpoint.Forget(&c.HostConfig, m.removed)
	mountpoint.Remember(&c.HostConfig, &o.HostConfig)
	return c.attachMounts(m.pid, m.added)
}

// undo takes what was added out again, and brings in what was removed; the container's record is the old one.
func (m *mountChange) undo() {
	for _, p := range slices.Backward(m.added) {
		if m.pid > 0 {
			_ = mount.DetachInside(m.pid, p.Destination)
		}
		m.forget(&p)
	}
	_ = m.c.attachMounts(m.pid, m.removed)
}

// done lets go of what was removed.
func (m *mountChange) done() {
	for i := range m.removed {
		m.forget(&m.removed[i])
	}
}

// forget drops what a mount needed that is no longer there.
func (m *mountChange) forget(p *mountpoint.Point) {
	if p.Type == mountpoint.TypeOverlay && m.c.mountAt(p.Destination) == nil {
		_ = os.RemoveAll(m.c.overlayDir(p))
	}
	if p.Name != "" && !slices.ContainsFunc(m.c.Mounts, func(have mountpoint.Point) bool { return have.Name == p.Name }) {
		m.c.e.volumes.Release(p.Name, m.c.ID)
		_ = m.c.e.volumes.Unmount(p.Name, m.c.e.exists)
	}
}

// attachMounts brings mounts into the running container.
func (c *Container) attachMounts(pid int, points []mountpoint.Point) error {
	if pid == 0 || len(points) == 0 {
		return nil
	}
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
	for _, p := range points {
		tree, options, err := plan.OpenMount(p.Destination)
		if err != nil {
			return err
		}
		err = tree.AttachInside(pid, p.Destination, owner, options)
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
		held, err := c.e.networks.Unpublish(c.ID, func(p netstore.Port) bool { return closed(p.ContainerPort, p.Protocol, p.HostPort) })
		if err == nil {
			err = c.hold(nil, held)
		}
		if err != nil {
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
		held, err := c.e.networks.Publish(c.ID, published)
		if err == nil {
			err = c.hold(held, nil)
		}
		if err != nil {
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

// hold hands sockets that hold ports over to the monitor, and lets it close others.
func (c *Container) hold(files []*os.File, release []socket.Bound) error {
	if len(files)+len(release) == 0 {
		return nil
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Hold(files, release)
}
