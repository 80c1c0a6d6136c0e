//go:build linux

package container

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/program"
	"github.com/berth-containers/berth/internal/trace"
)

func (c *Container) hooks() *specs.Hooks {
	if c.Made == nil || c.Made.Hooks == nil {
		return &specs.Hooks{}
	}
	return c.Made.Hooks
}

// runHooks runs hooks of the runtime's own namespaces, one after the other, with the container's state on their
// standard input (config.md, "POSIX-platform Hooks"). The first that fails ends it.
func (c *Container) runHooks(hooks []specs.Hook, when string) error {
	if len(hooks) == 0 {
		return nil
	}
	now := c.State()
	if when == "prestart" || when == "createRuntime" {
		now.Status = specs.StateCreating // create has not returned yet (runtime.md, "Lifecycle")
	}
	state, err := json.Marshal(now)
	if err != nil {
		return errs.Wrap("run "+when+" hooks", err)
	}
	return runHooks(hooks, when, state, os.Environ())
}

// runHooks runs hooks; env is the environment of those that name none, as runc's.
func runHooks(hooks []specs.Hook, when string, state []byte, env []string) error {
	for i, h := range hooks {
		if h.Env == nil {
			h.Env = env
		}
		err := trace.Step("hook", "a program that was asked for at this moment", "when", when, "path", h.Path).
			Do(func() error { return runHook(&h, state) })
		if err != nil {
			return errs.Wrap(fmt.Sprintf("error running %s hook #%d: %s", when, i, h.Path), err)
		}
	}
	return nil
}

func runHook(h *specs.Hook, state []byte) error {
	p := program.Program{Path: h.Path, Args: h.Args, Env: h.Env, Input: state}
	if len(h.Args) == 0 {
		p.Args = []string{h.Path}
	}
	if h.Timeout != nil {
		p.Timeout = time.Duration(*h.Timeout) * time.Second
	}
	// A hook's working directory is the bundle or /, never one of ours.
	if p.Dir, _ = os.Getwd(); p.Dir == "" {
		p.Dir = "/"
	}
	out, err := p.Run()
	if err != nil && len(out) > 0 {
		return fmt.Errorf("%w: %s", err, out)
	}
	return err
}
