//go:build linux

package container

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
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
	return runHooks(hooks, when, state)
}

func runHooks(hooks []specs.Hook, when string, state []byte) error {
	for i, h := range hooks {
		err := trace.Step("hook", "a program that was asked for at this moment", "when", when, "path", h.Path).
			Do(func() error { return runHook(&h, state) })
		if err != nil {
			return errs.Wrap(fmt.Sprintf("run %s hook #%d %s", when, i, h.Path), err)
		}
	}
	return nil
}

func runHook(h *specs.Hook, state []byte) error {
	ctx, cancel := context.Background(), context.CancelFunc(func() {})
	if h.Timeout != nil {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
	}
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args
	}
	cmd.Env = append([]string{}, h.Env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(state), &out, &out
	cmd.WaitDelay = time.Second
	// A hook's working directory is the bundle or /, never one of ours.
	if cmd.Dir, _ = os.Getwd(); cmd.Dir == "" {
		cmd.Dir = "/"
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("it did not end within %d seconds", *h.Timeout)
	}
	if text := bytes.TrimSpace(out.Bytes()); err != nil && len(text) > 0 {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}
