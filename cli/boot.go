//go:build linux

package cli

import (
	"fmt"
	"os"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/boot"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/tty"
)

func newBoot(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "boot", Short: "Start the containers that must run, as the host does when it begins", Args: noArgs,
		Long: `Start the containers that must run: those with --restart always, and those with --restart unless-stopped that nobody has
stopped. The host's init system calls this once when it begins; "berth boot install" makes systemd do so.

Further commands: berth boot install, uninstall, status, stop`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return a.booted(boot.Start(e))
		},
	}
}

func newBootStop(a *app) *cobra.Command {
	seconds := -1
	cmd := &cobra.Command{
		Use: "boot stop [OPTIONS]", Short: "Stop all containers, as the host does before it goes down; they start again with it", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			var timeout *time.Duration
			if cmd.Flags().Changed("timeout") {
				d := time.Duration(seconds) * time.Second
				timeout = &d
			}
			return a.booted(boot.Stop(e, timeout))
		},
	}
	cmd.Flags().IntVarP(&seconds, "timeout", "t", seconds, "Seconds to wait before killing a container (default: each container's own)")
	return cmd
}

// booted prints names, and what went wrong with some.
func (a *app) booted(results []boot.Result, err error) error {
	if err != nil {
		return err
	}
	failed := false
	for _, r := range results {
		if r.Err != nil {
			failed = true
			a.complain(errs.Wrap("container "+r.Name, r.Err))
			continue
		}
		fmt.Fprintln(a.out, r.Name)
	}
	if failed {
		return exitCode(1)
	}
	return nil
}

func newBootInstall(a *app) *cobra.Command {
	dry := false
	cmd := &cobra.Command{
		Use: "boot install [OPTIONS]", Short: "Let systemd start and stop containers with the host", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			program, err := os.Executable()
			if err != nil {
				return errs.Wrap("find this program", err)
			}
			if dry {
				fmt.Fprint(a.out, boot.Unit(program, e.Root(), e.State()))
				return nil
			}
			if err := (boot.Systemd{Root: "/"}).Install(program, e.Root(), e.State()); err != nil {
				return err
			}
			fmt.Fprintln(a.out, boot.UnitName)
			return nil
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "Print the unit and change nothing")
	return cmd
}

func newBootUninstall(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "boot uninstall", Short: "Undo boot install", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return (boot.Systemd{Root: "/"}).Uninstall() },
	}
}

func newBootStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "boot status", Short: "Say which containers start with the host, and whether it is told to", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			if (boot.Systemd{Root: "/"}).Installed() {
				fmt.Fprintf(a.out, "%s is installed\n", boot.UnitName)
			} else {
				fmt.Fprintf(a.out, "%s is not installed: berth boot install\n", boot.UnitName)
			}
			list, err := e.List(engine.ListOptions{All: true})
			if err != nil {
				return err
			}
			for _, s := range list {
				if c, err := e.Lookup(s.ID); err == nil && (boot.Wanted(c) || c.Running() && !c.HostConfig.RestartPolicy.IsNone()) {
					fmt.Fprintf(a.out, "%s (%s)\n", c.Name, c.HostConfig.RestartPolicy.Name)
				}
			}
			return nil
		},
	}
}

// sayBoot tells somebody at a terminal who has just started a container that should always run what is missing for it.
func (a *app) sayBoot(p *docker.RestartPolicy) {
	systemd := boot.Systemd{Root: "/"}
	if f, ok := a.err.(*os.File); !ok || !tty.IsTerminal(f) || !p.IsAlways() && !p.IsUnlessStopped() || !systemd.There() || systemd.Installed() {
		return
	}
	fmt.Fprintln(a.err, "note: nothing starts it with the host yet: berth boot install")
}
