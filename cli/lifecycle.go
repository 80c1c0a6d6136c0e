//go:build linux

package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
)

// forEach is a command that does something for each container it is given, and prints the name of each.
func (a *app) forEach(use, short string, do func(e *engine.Engine, c *engine.Container) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " [OPTIONS] CONTAINER [CONTAINER...]", Short: short, Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return a.each(args, func(name string) error {
				c, err := e.Lookup(name)
				if err != nil {
					return err
				}
				if err := do(e, c); err != nil {
					return err
				}
				fmt.Fprintln(a.out, name)
				return nil
			})
		},
	}
}

// most is how many containers of one command line something is done to at the same time, as Docker's.
const most = 50

// forEachAtOnce is forEach for what takes its time: no container waits for another one. The names come in their order.
func (a *app) forEachAtOnce(use, short string, do func(c *engine.Container) error) *cobra.Command {
	cmd := a.forEach(use, short, nil)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		e, err := a.open()
		if err != nil {
			return err
		}
		return a.atOnce(args, false, func(name string) error {
			c, err := e.Lookup(name)
			if err != nil {
				return err
			}
			return do(c)
		})
	}
	return cmd
}

// atOnce does something for each name. With gone one that is not there is said and is no failure.
func (a *app) atOnce(names []string, gone bool, do func(name string) error) error {
	results, slots, next := make([]chan error, len(names)), make(chan struct{}, most), 0
	for i, name := range names {
		results[i] = make(chan error, 1)
		go func() {
			slots <- struct{}{}
			results[i] <- do(name)
			<-slots
		}()
	}
	return a.each(names, func(name string) error {
		err := <-results[next]
		next++
		switch {
		case err == nil:
			fmt.Fprintln(a.out, name)
		case gone && errs.Is(err, errs.NotFound):
			a.complain(err)
			return nil
		}
		return err
	})
}

// unchanged makes "it is so already" no error.
func unchanged(err error) error {
	if errs.Is(err, errs.NotModified) {
		return nil
	}
	return err
}

func newStart(a *app) *cobra.Command {
	var attach, interactive bool
	keys := ""
	cmd := a.forEach("start", "Start one or more stopped containers", func(e *engine.Engine, c *engine.Container) error {
		_, err := c.Start(engine.StartOptions{})
		return unchanged(err)
	})
	plain := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !attach && !interactive {
			return plain(cmd, args)
		}
		if len(args) > 1 {
			return errs.Text(errs.Invalid, "you cannot start and attach multiple containers at once")
		}
		return a.startAttached(args[0], interactive, keys)
	}
	cmd.Flags().BoolVarP(&attach, "attach", "a", false, "Attach STDOUT/STDERR and forward signals")
	cmd.Flags().BoolVarP(&interactive, "interactive", "i", false, "Attach container's STDIN")
	cmd.Flags().StringVar(&keys, "detach-keys", "", "Override the key sequence for detaching a container")
	return cmd
}

func (a *app) startAttached(name string, interactive bool, keys string) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	c, err := e.Lookup(name)
	if err != nil {
		return err
	}
	cfg := c.Config
	cfg.AttachStdin, cfg.AttachStdout, cfg.AttachStderr = interactive, true, true
	session, err := c.Start(engine.StartOptions{Streams: a.streams(&cfg, keys)})
	if errs.Is(err, errs.NotModified) { // it runs: attach
		session, err = c.Attach(*a.streams(&cfg, keys))
	}
	if err != nil {
		return startFailure(err)
	}
	return a.follow(c, session, c.Tty, interactive, true)
}

// stopFlags are those of stop and restart.
type stopFlags struct {
	signal  string
	timeout int
	cmd     *cobra.Command
}

func (s *stopFlags) register(cmd *cobra.Command) {
	s.cmd = cmd
	cmd.Flags().StringVarP(&s.signal, "signal", "s", "", "Signal to send to the container")
	cmd.Flags().IntVarP(&s.timeout, "timeout", "t", 0, "Seconds to wait before killing the container (-1: for ever)")
	cmd.Flags().IntVar(&s.timeout, "time", 0, "Seconds to wait before killing the container")
	_ = cmd.Flags().MarkHidden("time")
}

func (s *stopFlags) options() engine.StopOptions {
	o := engine.StopOptions{Signal: s.signal}
	if s.cmd.Flags().Changed("timeout") || s.cmd.Flags().Changed("time") {
		d := time.Duration(s.timeout) * time.Second
		o.Timeout = &d
	}
	return o
}

func newStop(a *app) *cobra.Command {
	f := &stopFlags{}
	cmd := a.forEachAtOnce("stop", "Stop one or more running containers", func(c *engine.Container) error { return unchanged(c.Stop(f.options())) })
	f.register(cmd)
	return cmd
}

func newRestart(a *app) *cobra.Command {
	f := &stopFlags{}
	cmd := a.forEach("restart", "Restart one or more containers", func(e *engine.Engine, c *engine.Container) error { return c.Restart(f.options()) })
	f.register(cmd)
	return cmd
}

func newKill(a *app) *cobra.Command {
	signal := ""
	cmd := a.forEachAtOnce("kill", "Kill one or more running containers", func(c *engine.Container) error { return c.Kill(signal) })
	cmd.Flags().StringVarP(&signal, "signal", "s", "", "Signal to send to the container (default KILL)")
	return cmd
}

func newPause(a *app) *cobra.Command {
	return a.forEachAtOnce("pause", "Pause all processes within one or more containers", func(c *engine.Container) error { return c.Pause() })
}

func newUnpause(a *app) *cobra.Command {
	return a.forEachAtOnce("unpause", "Unpause all processes within one or more containers", func(c *engine.Container) error { return c.Unpause() })
}

func newRemove(a *app) *cobra.Command {
	o := engine.RemoveOptions{}
	cmd := a.forEachAtOnce("rm", "Remove one or more containers", func(c *engine.Container) error { return c.Remove(o) })
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "Force the removal of a running container (uses SIGKILL)")
	cmd.Flags().BoolVarP(&o.Volumes, "volumes", "v", false, "Remove anonymous volumes associated with the container")
	link := cmd.Flags().BoolP("link", "l", false, "Remove the specified link, CONTAINER/ALIAS, and no container")
	plain := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *link {
			return a.each(args, a.unlink)
		}
		if !o.Force {
			return plain(cmd, args)
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		return a.atOnce(args, true, func(name string) error {
			c, err := e.Lookup(name)
			if c != nil { // also one whose configuration is damaged
				err = c.Remove(o)
			}
			return err
		})
	}
	return cmd
}

// unlink removes a link.
func (a *app) unlink(name string) error {
	parent, alias, ok := strings.Cut(strings.Trim(name, "/"), "/")
	if !ok {
		return errs.Text(errs.Conflict, "Conflict, cannot remove the default link name of the container")
	}
	return a.withContainer(parent, func(c *engine.Container) error {
		err := c.Unlink(alias)
		if err == nil {
			fmt.Fprintln(a.out, name)
		}
		return err
	})
}

func newRename(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rename CONTAINER NEW_NAME", Short: "Rename a container", Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainer(args[0], func(c *engine.Container) error { return c.Rename(args[1]) })
		},
	}
}

func newWait(a *app) *cobra.Command {
	condition := engine.NotRunning
	cmd := &cobra.Command{
		Use: "wait [OPTIONS] CONTAINER [CONTAINER...]", Short: "Block until one or more containers stop, then print their exit codes", Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return a.each(args, func(name string) error {
				c, err := e.Lookup(name)
				if err != nil {
					return err
				}
				exit, err := c.WaitFor(cmd.Context(), condition)
				if err == nil {
					fmt.Fprintln(a.out, exit.Code)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&condition, "condition", condition, "What to wait for: not-running, next-exit, removed")
	return cmd
}

// sayLost warns of streams that a running container has no more.
func (a *app) sayLost(c *engine.Container) {
	if lost := c.LostStreams(); lost != "" {
		fmt.Fprintf(a.err, "WARNING: the container's monitor was killed, and %s has ended with it\n", lost)
	}
}

func newAttach(a *app) *cobra.Command {
	var noStdin, proxy bool
	keys := ""
	cmd := &cobra.Command{
		Use: "attach [OPTIONS] CONTAINER", Short: "Attach local standard input, output, and error streams to a running container", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainer(args[0], func(c *engine.Container) error {
				cfg := c.Config
				cfg.AttachStdin, cfg.AttachStdout, cfg.AttachStderr = !noStdin && c.OpenStdin, true, true
				session, err := c.Attach(*a.streams(&cfg, keys))
				if err != nil {
					return err
				}
				a.sayLost(c)
				return a.follow(c, session, c.Tty, cfg.AttachStdin, proxy)
			})
		},
	}
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "Do not attach STDIN")
	cmd.Flags().BoolVar(&proxy, "sig-proxy", true, "Proxy all received signals to the process")
	cmd.Flags().StringVar(&keys, "detach-keys", "", "Override the key sequence for detaching a container")
	return cmd
}
