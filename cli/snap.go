//go:build linux

package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/snap"
	"github.com/berth-containers/berth/internal/errs"
)

func newSnap(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "snap CONTAINER [NAME]", Short: "Keep what a container has written so far as a snapshot", Args: rangeArgs(1, 2),
		Long: `Keep what a container has written so far as a snapshot. A running container stands still for it. Volumes are no part of it.

Further commands: berth snap ls, snap rm; berth branch makes a container of a snapshot, berth undo goes back to one.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainer(args[0], func(c *engine.Container) error {
				s, err := snap.Make(c, strings.Join(args[1:], ""))
				if err == nil {
					fmt.Fprintln(a.out, s.Name)
				}
				return err
			})
		},
	}
}

// snapshotRow is a line of snap ls.
type snapshotRow struct {
	snap.Snapshot
	CreatedSince, HumanSize string
}

func newSnapList(a *app) *cobra.Command {
	format, quiet := "", false
	cmd := &cobra.Command{
		Use: "snap ls [OPTIONS] [CONTAINER...]", Short: "List snapshots", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				args = nil
				list, err := e.List(engine.ListOptions{All: true})
				if err != nil {
					return err
				}
				for _, s := range list {
					args = append(args, s.ID)
				}
			}
			var rows []any
			for _, name := range args {
				c, err := e.Lookup(name)
				if err != nil {
					return err
				}
				list, err := snap.List(c)
				if err != nil {
					return err
				}
				for _, s := range list {
					rows = append(rows, snapshotRow{s, units.HumanDuration(time.Since(s.Created)) + " ago", humanSize(s.Size)})
				}
			}
			if quiet && format == "" {
				format = "{{.Container}}:{{.Name}}"
			}
			t := &table{columns: []column{{"CONTAINER", "Container"}, {"NAME", "Name"}, {"CREATED", "CreatedSince"}, {"SIZE", "HumanSize"}}}
			return t.print(a.out, format, rows)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display CONTAINER:NAME")
	return cmd
}

// withSnapshot finds CONTAINER:NAME; without :NAME it is "".
func (a *app) withSnapshot(e *engine.Engine, arg string) (*engine.Container, string, error) {
	container, name, _ := strings.Cut(arg, ":")
	c, err := e.Lookup(container)
	return c, name, err
}

func newSnapRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "snap rm CONTAINER:NAME [CONTAINER:NAME...]", Short: "Remove snapshots", Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return a.each(args, func(arg string) error {
				c, name, err := a.withSnapshot(e, arg)
				if err != nil {
					return err
				}
				if name == "" {
					return invalid("%q names no snapshot: want CONTAINER:NAME", arg)
				}
				if err := snap.Remove(c, name); err != nil {
					return err
				}
				fmt.Fprintln(a.out, arg)
				return nil
			})
		},
	}
}

func newBranch(a *app) *cobra.Command {
	name, start := "", false
	cmd := &cobra.Command{
		Use: "branch [OPTIONS] CONTAINER[:SNAPSHOT]", Short: "Create a container like another, with what it had written at a snapshot, or has now", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			c, snapshot, err := a.withSnapshot(e, args[0])
			if err != nil {
				return err
			}
			branch, err := snap.Branch(e, c, snapshot, name)
			if err != nil {
				return err
			}
			if start {
				if _, err := branch.Start(engine.StartOptions{}); err != nil {
					return err
				}
			}
			fmt.Fprintln(a.out, branch.ID)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "Assign a name to the new container")
	cmd.Flags().BoolVarP(&start, "detach", "d", false, "Start it in the background")
	return cmd
}

func newUndo(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "undo [CONTAINER [SNAPSHOT]|NAME]", Short: "Bring back a container to a snapshot, or what was removed", Args: rangeArgs(0, 2),
		Long: "Bring a container back to a snapshot, by default its newest; what that takes away is kept as \"before-undo\". Of a name that no container has,\n" +
			"bring back the container, image or volume that was removed; without a name, what was removed last (berth trash keep).",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			name := strings.Join(args, " ")
			if _, err := e.Lookup(name); len(args) == 0 || len(args) == 1 && errs.Is(err, errs.NotFound) && e.Keeps(name) {
				return a.space().Restore(e, name)
			}
			return a.withContainer(args[0], func(c *engine.Container) error {
				name, err := snap.Undo(c, strings.Join(args[1:], ""))
				if err == nil {
					fmt.Fprintf(a.out, "%s:%s\n", c.Name, name)
				}
				return err
			})
		},
	}
}
