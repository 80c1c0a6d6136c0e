//go:build linux

package cli

import (
	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/tty"
)

func newExec(a *app) *cobra.Command {
	cfg := engine.ExecConfig{}
	var interactive bool
	var env, envFile listFlag
	keys := ""
	cmd := &cobra.Command{
		Use: "exec [OPTIONS] CONTAINER COMMAND [ARG...]", Short: "Execute a command in a running container", Args: minArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := runFlags{env: env, envFile: envFile}
			f.h = &f.c.HostConfig
			if err := f.useEnvironment(); err != nil {
				return startFailure(err)
			}
			cfg.Env, cfg.Cmd = f.c.Env, args[1:]
			return a.exec(args[0], &cfg, interactive, keys)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	f.BoolVarP(&cfg.Tty, "tty", "t", false, "Allocate a pseudo-TTY")
	f.BoolVarP(&cfg.Detach, "detach", "d", false, "Detached mode: run command in the background")
	f.VarP(&env, "env", "e", "Set environment variables")
	f.Var(&envFile, "env-file", "Read in a file of environment variables")
	f.StringVarP(&cfg.User, "user", "u", "", `Username or UID (format: "<name|uid>[:<group|gid>]")`)
	f.VarP((*folderFlag)(&cfg.WorkingDir), "workdir", "w", "Working directory inside the container")
	f.BoolVar(&cfg.Privileged, "privileged", false, "Give extended privileges to the command")
	f.StringVar(&keys, "detach-keys", "", "Override the key sequence for detaching a container")
	return cmd
}

func (a *app) exec(name string, cfg *engine.ExecConfig, interactive bool, keys string) error {
	if interactive && cfg.Tty && !cfg.Detach && !tty.IsTerminal(a.in) {
		return errs.Text(errs.Invalid, "the input device is not a TTY").WithHint("leave -t out, or run it in a terminal")
	}
	e, err := a.open()
	if err != nil {
		return err
	}
	c, err := e.Lookup(name)
	if err != nil {
		return err
	}
	if !c.Running() {
		return errs.Text(errs.Conflict, "container "+c.ID+" is not running")
	}
	if cfg.Detach {
		_, err := c.Exec(*cfg, nil)
		return execFailure(err)
	}
	like := c.Config
	like.Tty, like.OpenStdin = cfg.Tty, interactive
	like.AttachStdin, like.AttachStdout, like.AttachStderr = interactive, true, true
	session, err := c.Exec(*cfg, a.streams(&like, keys))
	if err != nil {
		return execFailure(err)
	}
	return a.follow(c, session, cfg.Tty, interactive, false)
}

// execFailure: only a command that cannot be executed has an exit status of its own.
func execFailure(err error) error {
	if errs.Is(err, errs.NoCommand) || errs.Is(err, errs.NotExecutable) {
		return startFailure(err)
	}
	return err
}
