//go:build linux

package space

import (
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/trash"
	"github.com/berth-containers/berth/internal/errs"
)

type trashRow struct{ Kind, Name, Removed, Until, Size string }

// TrashList is the command `trash ls`.
func TrashList(c *Call) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Short: "List what was removed and can come back", Args: c.Args(0, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.Open()
			if err != nil {
				return err
			}
			keep, err := trash.Keep(e.Root())
			if err == nil {
				err = trash.Expire(e.Root())
			}
			if err != nil {
				return err
			}
			var rows []any
			for _, i := range trash.List(e.Root()) {
				rows = append(rows, trashRow{i.Kind, i.Name, units.HumanDuration(time.Since(i.Removed)) + " ago", i.Removed.Add(keep).Local().Format("2006-01-02 15:04"), human(i.Size())})
			}
			return c.Table([][2]string{{"KIND", "Kind"}, {"NAME", "Name"}, {"REMOVED", "Removed"}, {"KEPT UNTIL", "Until"}, {"SIZE", "Size"}}, format, rows)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'")
	return cmd
}

// TrashKeep is the command `trash keep`.
func TrashKeep(c *Call) *cobra.Command {
	return &cobra.Command{
		Use: "keep [DURATION|none]", Short: "Show or set for how long containers, images and volumes are kept that are removed", Args: c.Args(0, 1), ValidArgs: []string{"none"},
		Long: "Show or set for how long containers, images and volumes are kept that are removed, 24h for instance. As long as they are kept they take as\nmuch of the disk as before; `berth undo` brings them back. What --rm removes is not kept.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.Open()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				keep, err := trash.Keep(e.Root())
				if err != nil {
					return err
				}
				text := "none"
				if keep > 0 {
					text = keep.String()
				}
				fmt.Fprintln(c.Out, text)
				return nil
			}
			keep := time.Duration(0)
			if args[0] != "none" {
				if keep, err = time.ParseDuration(args[0]); err != nil || keep <= 0 {
					return errs.Text(errs.Invalid, fmt.Sprintf("invalid duration %q: want 24h or 30m for instance, or none", args[0]))
				}
			}
			if err := trash.SetKeep(e.Root(), keep); err != nil {
				return err
			}
			return trash.Expire(e.Root())
		},
	}
}

// TrashEmpty is the command `trash empty`.
func TrashEmpty(c *Call) *cobra.Command {
	return &cobra.Command{
		Use: "empty", Short: "Delete for good what was removed", Args: c.Args(0, 0),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.Open()
			if err != nil {
				return err
			}
			for _, i := range trash.List(e.Root()) {
				if err := trash.Drop(i); err != nil {
					return err
				}
				fmt.Fprintf(c.Out, "Deleted: %s %s\n", i.Kind, i.Name)
			}
			return e.CollectImages()
		},
	}
}

// Restore brings back what was removed last, or last under a name.
func (c *Call) Restore(e *engine.Engine, name string) error {
	for _, i := range trash.List(e.Root()) {
		if name != "" && i.Name != name {
			continue
		}
		if err := e.Restore(i); err != nil {
			return err
		}
		fmt.Fprintf(c.Out, "Restored: %s %s\n", i.Kind, i.Name)
		return nil
	}
	if name == "" {
		name = "anything"
	}
	return errs.Text(errs.NotFound, "nothing is kept of "+name).WithHint("berth trash keep 24h keeps what is removed from then on")
}
