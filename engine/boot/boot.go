//go:build linux

// Package boot starts the containers that must run when the host begins, and stops all when it ends. There is no
// daemon that would do it: the host's init system calls `berth boot` once, and `berth boot stop` before it goes down.
package boot

import (
	"slices"
	"sync"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
)

// Result is what became of one container.
type Result struct {
	Name string
	Err  error // nil: started, or stopped
}

// Wanted reports whether a container is to be started with the host: `always`, and `unless-stopped` unless somebody has
// stopped it. A shutdown has stopped nobody, whether it was announced (`berth boot stop`) or not.
func Wanted(c *engine.Container) bool {
	switch c.HostConfig.RestartPolicy.Name {
	case docker.RestartPolicyAlways:
		return c.Last() != nil // one that was only created has never been asked to run
	case docker.RestartPolicyUnlessStopped:
		exit := c.Last()
		return exit != nil && exit.By != "stop" && exit.By != "kill"
	}
	return false
}

// Start starts what must run and does not, in the order in which it was created: later ones may need earlier ones.
func Start(e *engine.Engine) ([]Result, error) {
	list, err := containers(e, false)
	if err != nil {
		return nil, err
	}
	var out []Result
	for _, c := range list {
		if !c.Running() && c.HostConfig.AutoRemove && c.Last() != nil { // it ran when the host went down, and goes with its end
			if err := c.Remove(engine.RemoveOptions{Volumes: true}); err != nil {
				out = append(out, Result{c.Name, err})
			}
			continue
		}
		if c.Running() || !Wanted(c) {
			continue
		}
		_, err := c.Start(engine.StartOptions{})
		if errs.Is(err, errs.NotModified) {
			continue // somebody was faster
		}
		out = append(out, Result{c.Name, err})
	}
	return out, nil
}

// Stop stops everything that runs, all at once, each within its own time, or timeout if it is not nil.
func Stop(e *engine.Engine, timeout *time.Duration) ([]Result, error) {
	list, err := containers(e, true)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(list))
	var all sync.WaitGroup
	for i, c := range list {
		all.Go(func() {
			err := c.Stop(engine.StopOptions{Timeout: timeout, By: "shutdown"})
			if errs.Is(err, errs.NotModified) {
				err = nil
			}
			results[i] = Result{c.Name, err}
		})
	}
	all.Wait()
	return results, nil
}

// containers lists them, the oldest first. What a host that went down has left is put in order on the way.
func containers(e *engine.Engine, running bool) ([]*engine.Container, error) {
	list, err := e.List(engine.ListOptions{All: !running})
	if err != nil {
		return nil, err
	}
	slices.Reverse(list)
	var out []*engine.Container
	for _, s := range list {
		c, err := e.Lookup(s.ID)
		if err == nil {
			out = append(out, c)
		}
	}
	return out, nil
}
