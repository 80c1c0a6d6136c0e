//go:build linux

package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine/trash"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/signals"
	"github.com/berth-containers/berth/monitor"
)

// Stop asks the container's program to end, and ends it when it does not. A container that does not run is no error.
func (c *Container) Stop(o StopOptions) error {
	sig := 0
	if o.Signal != "" {
		s, err := signals.Parse(o.Signal)
		if err != nil {
			return err
		}
		sig = int(s)
	}
	err := c.askAndWait(monitor.Request{Op: "stop", Signal: sig, Timeout: o.Timeout, By: o.By})
	if errs.Is(err, errs.Conflict) {
		return errs.Text(errs.NotModified, "container "+c.ID+" is already stopped")
	}
	return err
}

// askAndWait asks for something that ends the container, and returns when nothing of it is left.
func (c *Container) askAndWait(r monitor.Request) error {
	conn, err := c.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	waiting, err := c.dial()
	if err != nil {
		return err
	}
	defer waiting.Close()
	if _, err := waiting.Ask(monitor.Request{Op: "wait"}); err != nil && !errors.Is(err, monitor.ErrLost) {
		return err
	}
	if _, err := conn.Ask(r); err != nil && !errors.Is(err, monitor.ErrLost) {
		return err
	}
	_, err = waiting.Stream(monitor.Streams{})
	if errors.Is(err, monitor.ErrLost) {
		c.repair()
		return nil
	}
	return err
}

// Restart stops the container, if it runs, and starts it.
func (c *Container) Restart(o StopOptions) error {
	if err := c.Stop(o); err != nil && !errs.Is(err, errs.NotModified) {
		return err
	}
	_, err := c.Start(StartOptions{})
	if err == nil {
		c.tell("restart")
	}
	return err
}

// Kill sends a signal to the container's program. After SIGKILL it waits until nothing of the container is left.
func (c *Container) Kill(signal string) error {
	sig := unix.SIGKILL
	if signal != "" {
		var err error
		if sig, err = signals.Parse(signal); err != nil {
			return err
		}
	}
	r := monitor.Request{Op: "signal", Signal: int(sig)}
	var err error
	if sig == unix.SIGKILL {
		err = c.askAndWait(r)
	} else {
		err = c.ask(r)
	}
	if errs.Is(err, errs.Conflict) {
		return errs.Text(errs.Conflict, "container "+c.ID+" is not running")
	}
	return err
}

// Pause freezes all processes of the container.
func (c *Container) Pause() error {
	if status, _, _ := c.now(); status != nil && status.Phase == monitor.Paused {
		return errs.Text(errs.Conflict, "Container "+c.ID+" is already paused")
	}
	return c.ask(monitor.Request{Op: "pause"})
}

// Unpause lets them go on.
func (c *Container) Unpause() error {
	status, _, _ := c.now()
	if status == nil || status.Phase != monitor.Paused {
		return errs.Text(errs.Conflict, "Container "+c.ID+" is not paused")
	}
	return c.ask(monitor.Request{Op: "resume"})
}

// Resize tells the container's terminal its size.
func (c *Container) Resize(s Size) error {
	return c.ask(monitor.Request{Op: "resize", Size: &s})
}

// Rename gives the container another name.
func (c *Container) Rename(name string) error {
	if len(name) > 0 && name[0] == '/' {
		name = name[1:]
	}
	if name == c.Name {
		return errs.Text(errs.Invalid, "Renaming a container with the same name as its current name")
	}
	if err := c.e.takeName(name, c.ID); err != nil {
		return err
	}
	old := c.Name
	c.Name = name
	if err := c.save(); err != nil {
		c.e.dropName(name, c.ID)
		return err
	}
	c.e.dropName(old, c.ID)
	_ = c.ask(monitor.Request{Op: "update", Journal: c.journal()}) // if it runs: its monitor knows the old name
	c.tell("rename", "oldName", "/"+old)
	return nil
}

// Remove deletes a container with all that it has written. A running one is refused, or killed first with Force.
func (c *Container) Remove(o RemoveOptions) error {
	c.repair()
	if !c.e.exists(c.ID) {
		return nil // it went with its end
	}
	lock, err := c.lock()
	if err != nil {
		return err
	}
	if lock == nil {
		if !o.Force {
			phase := "running"
			if status, _, _ := c.now(); status != nil {
				phase = status.Phase
			}
			return errs.New(errs.Conflict, fmt.Sprintf("cannot remove container %q: container is %s", "/"+c.Name, phase), nil).
				WithHint("stop the container before removing or force remove")
		}
		if err := c.Kill(""); err != nil && !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound) {
			return err
		}
		if !c.e.exists(c.ID) {
			return nil
		}
		if lock, err = c.waitForLock(); err != nil {
			return err
		}
	}
	defer lock.Unlock()
	if exists(c.runDir()) {
		c.clean()
	}
	return c.remove(o.Volumes)
}

// remove deletes the container's files: it is there as a whole or gone as a whole, also after a power cut.
func (c *Container) remove(volumes bool) error {
	for _, m := range c.Mounts {
		if m.Name != "" {
			c.e.volumes.Release(m.Name, c.ID)
			_ = c.e.volumes.Unmount(m.Name, c.e.exists)
		}
	}
	c.dropLayer()
	gone := c.dataDir() + ".removed"
	kept := ""
	if c.keepable() {
		if kept = c.e.discard(trash.Container, c.Name, nil); kept != "" {
			gone = filepath.Join(kept, trash.Data)
		}
	}
	if err := os.Rename(c.dataDir(), gone); err != nil {
		return errs.Wrap("remove container "+c.ShortID(), err)
	}
	c.e.dropName(c.Name, c.ID)
	var last record // from here on nobody renames it any more; somebody may have meanwhile
	if atomicfile.ReadJSON(filepath.Join(gone, configFile), &last) == nil && last.Name != c.Name && last.Name != "" {
		c.e.dropName(last.Name, c.ID)
	}
	c.tell("destroy")
	if volumes || c.HostConfig.AutoRemove {
		for _, name := range c.Anon {
			_ = c.e.volumes.Remove(name, c.e.exists)
		}
	}
	if kept != "" {
		return nil
	}
	return errs.Wrap("remove container "+c.ShortID(), os.RemoveAll(gone))
}
