//go:build linux

// Package space has the commands about what is taken of the disk: system df and system budget.
package space

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/space"
	"github.com/berth-containers/berth/internal/errs"
)

// Call is one call of the program.
type Call struct {
	Open  func() (*engine.Engine, error)
	Out   io.Writer
	Args  func(least, most int) cobra.PositionalArgs
	Table func(columns [][2]string, format string, rows []any) error // heads and fields of a list in Docker's ways
	One   func(format string, v any) error                           // prints one thing by a template or as JSON
}

// Rows of `system df`, with the fields that Docker's templates have.
type (
	kindRow  struct{ Type, TotalCount, Active, Size, Reclaimable string }
	imageRow struct{ Repository, Tag, ID, CreatedSince, Size, SharedSize, UniqueSize, Containers string }

	containerRow struct{ ID, Image, Command, LocalVolumes, Size, CreatedSince, Status, Names string }

	volumeRow struct{ Name, Links, Size string }
)

// details is all that --verbose tells.
type details struct {
	Images     []any
	Containers []any
	Volumes    []any
	BuildCache []any
}

func human(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// DiskUsage is the command `system df`.
func DiskUsage(c *Call) *cobra.Command {
	format, verbose := "", false
	cmd := &cobra.Command{
		Use: "df [OPTIONS]", Short: "Show disk usage", Args: c.Args(0, 0),
		Long: "Show what images, containers and volumes take of the disk, as du counts, and what of it the prune commands can give back.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.Open()
			if err != nil {
				return err
			}
			r, err := space.Measure(e)
			if err != nil {
				return err
			}
			if verbose {
				return c.verbose(r, format)
			}
			var rows []any
			for _, u := range r.Kinds {
				share := int64(0)
				if u.Size > 0 {
					share = 100 * u.Reclaimable / u.Size
				}
				rows = append(rows, kindRow{u.Type, strconv.Itoa(u.Total), strconv.Itoa(u.Active), human(u.Size), fmt.Sprintf("%s (%d%%)", human(u.Reclaimable), share)})
			}
			return c.Table([][2]string{{"TYPE", "Type"}, {"TOTAL", "TotalCount"}, {"ACTIVE", "Active"}, {"SIZE", "Size"}, {"RECLAIMABLE", "Reclaimable"}}, format, rows)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "Show detailed information on space usage")
	return cmd
}

func detailsOf(r *space.Report) details {
	d := details{Images: []any{}, Containers: []any{}, Volumes: []any{}, BuildCache: []any{}}
	ago := func(t time.Time) string { return units.HumanDuration(time.Since(t)) + " ago" }
	short := func(id string) string { return strings.TrimPrefix(id, "sha256:")[:12] }
	for _, i := range r.Images {
		d.Images = append(d.Images, imageRow{i.Repository, i.Tag, short(i.ID), ago(i.Created), human(i.Disk), human(i.Shared), human(i.Disk - i.Shared), strconv.Itoa(i.Containers)})
	}
	for _, s := range r.Containers {
		volumes := 0
		for _, m := range s.Mounts {
			if m.Type == "volume" {
				volumes++
			}
		}
		command := []rune(s.Command)
		if len(command) > 20 {
			command = append(command[:19], '…')
		}
		d.Containers = append(d.Containers, containerRow{short(s.ID), s.Image, strconv.Quote(string(command)), strconv.Itoa(volumes), human(s.Disk), ago(time.Unix(s.Created, 0)), s.Status,
			strings.TrimPrefix(s.Names[0], "/")})
	}
	for _, v := range r.Volumes {
		d.Volumes = append(d.Volumes, volumeRow{v.Name, strconv.Itoa(v.Links), human(v.Disk)})
	}
	return d
}

func (c *Call) verbose(r *space.Report, format string) error {
	d := detailsOf(r)
	if format != "" {
		return c.One(format, d)
	}
	for _, part := range []struct {
		head    string
		columns [][2]string
		rows    []any
	}{
		{"Images space usage:", [][2]string{{"REPOSITORY", "Repository"}, {"TAG", "Tag"}, {"IMAGE ID", "ID"}, {"CREATED", "CreatedSince"}, {"SIZE", "Size"}, {"SHARED SIZE", "SharedSize"},
			{"UNIQUE SIZE", "UniqueSize"}, {"CONTAINERS", "Containers"}}, d.Images},
		{"\nContainers space usage:", [][2]string{{"CONTAINER ID", "ID"}, {"IMAGE", "Image"}, {"COMMAND", "Command"}, {"LOCAL VOLUMES", "LocalVolumes"}, {"SIZE", "Size"},
			{"CREATED", "CreatedSince"}, {"STATUS", "Status"}, {"NAMES", "Names"}}, d.Containers},
		{"\nLocal Volumes space usage:", [][2]string{{"VOLUME NAME", "Name"}, {"LINKS", "Links"}, {"SIZE", "Size"}}, d.Volumes},
	} {
		fmt.Fprintf(c.Out, "%s\n\n", part.head)
		if err := c.Table(part.columns, "", part.rows); err != nil {
			return err
		}
	}
	return nil
}

// Keep keeps images within the budget, after some were added, and says what it removed.
func Keep(e *engine.Engine, w io.Writer) error {
	k, err := space.Keep(e)
	if k != nil {
		for _, name := range k.Removed {
			fmt.Fprintf(w, "Removed image %s: it was not used for the longest time, and the budget is %s\n", name, human(k.Budget))
		}
		if k.Over() {
			fmt.Fprintf(w, "WARNING: images take %s, the budget is %s; those that are left are used, or nowhere else\n", human(k.Size), human(k.Budget))
		}
	}
	return err
}

// Budget is the command `system budget`.
func Budget(c *Call) *cobra.Command {
	return &cobra.Command{
		Use: "budget [SIZE|none]", Short: "Show or set how much images may take of the disk", Args: c.Args(0, 1),
		ValidArgs: []string{"none"},
		Long: "Show or set how much images may take of the disk. When pull, run, load, import or commit bring more, the images that were not used for the\nlongest time are removed, " +
			"as far as no container has them, and they have no name or were pulled, so that their registry has them still.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.Open()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return c.budget(e)
			}
			bytes := int64(0)
			if args[0] != "none" {
				if bytes, err = units.RAMInBytes(args[0]); err != nil || bytes <= 0 {
					return errs.Text(errs.Invalid, fmt.Sprintf("invalid size %q: want a number with k, m, g or t behind it, or none", args[0]))
				}
			}
			if err := space.SetBudget(e, bytes); err != nil {
				return err
			}
			return Keep(e, c.Out)
		},
	}
}

func (c *Call) budget(e *engine.Engine) error {
	bytes, err := space.Budget(e)
	if err != nil {
		return err
	}
	text := "none"
	if bytes > 0 {
		text = human(bytes)
	}
	fmt.Fprintf(c.Out, "Budget: %s\nImages: %s\n", text, human(space.Images(e)))
	return nil
}
