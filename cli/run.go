//go:build linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/tty"
)

func newRun(a *app) *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use: "run [OPTIONS] IMAGE|/COMMAND [COMMAND] [ARG...]", Short: "Create and run a new container", Args: minArgs(1),
		Long: "Create and run a new container.\n\nA first argument that begins with / is a command: it runs in the image that berth carries, " + engine.DefaultImage + ".",
		RunE: func(cmd *cobra.Command, args []string) error {
			return startFailure(a.run(f, args))
		},
	}
	prepareRun(cmd, f, false)
	return cmd
}

func newCreate(a *app) *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use: "create [OPTIONS] IMAGE|/COMMAND [COMMAND] [ARG...]", Short: "Create a new container", Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return startFailure(err)
			}
			cfg, err := f.config(args)
			if err != nil {
				return startFailure(err)
			}
			c, err := a.create(e, f, cfg)
			if err == nil {
				fmt.Fprintln(a.out, c.ID)
			}
			return startFailure(err)
		},
	}
	prepareRun(cmd, f, true)
	return cmd
}

// prepareRun gives run and create their flags, in every spelling.
func prepareRun(cmd *cobra.Command, f *runFlags, create bool) {
	f.register(cmd.Flags(), create)
	cmd.Flags().Bool("help", false, "Print usage") // its short form is the host name here
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return startError{errs.New(errs.Invalid, "", err).WithHint(cmd.CommandPath() + " --help")}
	})
	args := cmd.Args
	cmd.Args = func(cmd *cobra.Command, given []string) error { return startFailure(args(cmd, given)) }
}

// startFailure makes an error one of those with the exit statuses 125 to 127.
func startFailure(err error) error {
	var code exitCode
	if err == nil || errors.As(err, &code) {
		return err
	}
	return startError{err}
}

// spellings are those of flags with one dash that the book 《自己动手写Docker》 uses, and what they mean.
var spellings = [...][2]string{{"-cpuset", "--cpuset-cpus"}, {"-cpushare", "--cpu-shares"}, {"-net", "--network"}, {"-name", "--name"}}

// singleDash replaces them in the options of run and create, up to the image.
func singleDash(fs *pflag.FlagSet, args []string) []string {
	out := append([]string{}, args...)
	for i := 0; i < len(out); i++ {
		arg := out[i]
		if arg == "--" || len(arg) < 2 || arg[0] != '-' {
			break
		}
		for _, s := range spellings {
			if rest, ok := strings.CutPrefix(arg, s[0]); ok && (rest == "" || rest[0] == '=') {
				arg = s[1] + rest
			}
		}
		out[i] = arg
		if takesNext(fs, arg) {
			i++
		}
	}
	return out
}

// takesNext reports whether the argument after a flag is its value.
func takesNext(fs *pflag.FlagSet, arg string) bool {
	if name, ok := strings.CutPrefix(arg, "--"); ok {
		f := fs.Lookup(name) // with = in it there is no such flag
		return f != nil && f.NoOptDefVal == "" && f.Value.Type() != "bool"
	}
	for i := 1; i < len(arg); i++ {
		f := fs.ShorthandLookup(arg[i : i+1])
		if f == nil {
			return false
		}
		if f.Value.Type() != "bool" {
			return i == len(arg)-1
		}
	}
	return false
}

// create makes a container, and writes its id to a file if that was asked for.
func (a *app) create(e *engine.Engine, f *runFlags, cfg *engine.Config) (*engine.Container, error) {
	if f.cidFile != "" {
		if _, err := os.Stat(f.cidFile); err == nil {
			return nil, errs.Text(errs.Conflict, "container ID file found, make sure the other container isn't running or delete "+f.cidFile)
		}
	}
	c, err := a.createFrom(e, f, cfg)
	if err == nil {
		for _, note := range c.Notes {
			fmt.Fprintln(a.err, "WARNING: "+note)
		}
	}
	if err != nil || f.cidFile == "" {
		return c, err
	}
	if err := os.WriteFile(f.cidFile, []byte(c.ID), 0o644); err != nil {
		_ = c.Remove(engine.RemoveOptions{Force: true})
		return nil, errs.Wrap("create the container ID file", err)
	}
	return c, nil
}

// createFrom makes a container. An image that is not here is pulled, as --pull says.
func (a *app) createFrom(e *engine.Engine, f *runFlags, cfg *engine.Config) (*engine.Container, error) {
	if f.pull != "always" {
		c, err := e.Create(*cfg)
		if f.pull == "never" || !errs.Is(err, errs.NotFound) || e.HasImage(cfg.Image, cfg.Platform) {
			return c, err
		}
		if !f.quiet {
			fmt.Fprintf(a.err, "Unable to find image '%s' locally\n", cfg.Image)
		}
		if perr := a.pull(context.Background(), e, cfg.Image, engine.TransferOptions{Platform: cfg.Platform}, a.err, f.quiet); perr != nil {
			return nil, errs.New(errs.KindOf(perr), err.Error(), perr).WithHint(errs.HintOf(err))
		}
		return e.Create(*cfg)
	}
	if err := a.pull(context.Background(), e, cfg.Image, engine.TransferOptions{Platform: cfg.Platform}, a.err, f.quiet); err != nil {
		return nil, err
	}
	return e.Create(*cfg)
}

// run is the whole of `run`.
func (a *app) run(f *runFlags, args []string) error {
	if f.interactive && f.tty && !f.detach && !tty.IsTerminal(a.in) {
		return errs.Text(errs.Invalid, "the input device is not a TTY").WithHint("leave -t out, or run it in a terminal")
	}
	narrator, err := a.narrate(f)
	if err != nil {
		return err
	}
	e, err := a.open()
	if err != nil {
		return err
	}
	cfg, err := f.config(args)
	if err != nil {
		return narrator.fail(err)
	}
	defer e.StartSoon()()
	c, err := a.create(e, f, cfg)
	if err != nil {
		return narrator.fail(err)
	}
	var streams *engine.Streams
	if !f.detach {
		streams = a.streams(&f.c, f.detachKeys)
	}
	session, err := c.Start(engine.StartOptions{Streams: streams})
	if err != nil {
		if f.h.AutoRemove {
			_ = c.Remove(engine.RemoveOptions{Force: true, Volumes: true})
		}
		return narrator.fail(err)
	}
	narrator.end()
	if f.detach {
		fmt.Fprintln(a.out, c.ID)
		a.sayBoot(&f.h.RestartPolicy)
		return nil
	}
	return a.follow(c, session, f.c.Tty, f.c.AttachStdin, f.sigProxy)
}

// streams are the caller's, as far as the container wants them.
func (a *app) streams(c *engine.Config, detachKeys string) *engine.Streams {
	s := &engine.Streams{DetachKeys: detachKeys}
	if c.AttachStdin && c.OpenStdin {
		s.Stdin = a.in
	}
	if c.AttachStdout {
		s.Stdout = a.out
	}
	if c.AttachStderr {
		s.Stderr = a.err
	}
	if c.Tty && c.AttachStdout {
		s.Resize = a.watchSize()
	}
	return s
}

// watchSize tells the sizes of the caller's terminal, the present one first.
func (a *app) watchSize() <-chan engine.Size {
	out, ok := a.out.(*os.File)
	if !ok || !tty.IsTerminal(out) {
		return nil
	}
	sizes := make(chan engine.Size, 4)
	if w, h, err := tty.GetSize(out); err == nil {
		sizes <- engine.Size{Width: w, Height: h}
	}
	tty.WatchSize(out, func(w, h uint16) {
		select {
		case sizes <- engine.Size{Width: w, Height: h}:
		default: // the next one says it
		}
	})
	return sizes
}

// follow stays with a container until it ends, and ends with its exit status.
func (a *app) follow(c *engine.Container, session *engine.Session, terminal, input, proxy bool) error {
	if terminal && input && tty.IsTerminal(a.in) {
		state, err := tty.MakeRaw(a.in)
		if err != nil {
			return err
		}
		defer state.Restore()
	}
	if proxy && !terminal {
		proxySignals(c)
	}
	exit, err := session.Wait()
	if errors.Is(err, engine.ErrDetached) {
		fmt.Fprintln(a.err)
		return nil
	}
	if err != nil {
		return err
	}
	if exit.Error != "" && exit.Code >= 125 {
		return errs.Text(errs.Internal, exit.Error)
	}
	if exit.Code != 0 {
		return exitCode(exit.Code)
	}
	return nil
}

// proxySignals passes on what this process is sent to the container's program, until this process ends. It takes those
// that people and programs send: each costs something at the start, and undoing it would at the end.
func proxySignals(c *engine.Container) {
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGTERM)
	go func() {
		for s := range signals {
			_ = c.Kill(fmt.Sprint(int(s.(unix.Signal))))
		}
	}()
}
