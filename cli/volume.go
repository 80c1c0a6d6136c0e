//go:build linux

package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
)

// onEach is a command that does something for each name it is given, and prints those for which it worked.
func (a *app) onEach(use, short string, do func(e *engine.Engine, name string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return a.each(args, func(name string) error {
				err := do(e, name)
				if err == nil {
					fmt.Fprintln(a.out, name)
				}
				return err
			})
		},
	}
}

func newVolumeCreate(a *app) *cobra.Command {
	driver := ""
	var labels, options listFlag
	cmd := &cobra.Command{
		Use: "create [OPTIONS] [VOLUME]", Short: "Create a volume",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return invalid("%q requires at most 1 argument", cmd.CommandPath())
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			name := strings.Join(args, "")
			v, err := e.CreateVolume(name, driver, pairs(labels), pairs(options))
			if err == nil {
				fmt.Fprintln(a.out, v.Name)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&driver, "driver", "d", "local", "Specify volume driver name")
	cmd.Flags().Var(&labels, "label", "Set metadata for a volume")
	cmd.Flags().VarP(&options, "opt", "o", "Set driver specific options")
	return cmd
}

// volumeRow is a line of `volume ls`. Availability, Group and Status are those of a swarm's volumes; `volume du` measures.
type volumeRow struct {
	Availability, Driver, Group, Labels, Links, Mountpoint, Name, Scope, Size, Status string
	labels                                                                            map[string]string
}

// Label is the value of one label.
func (r volumeRow) Label(name string) string { return r.labels[name] }

func newVolumeList(a *app) *cobra.Command {
	quiet, format := false, ""
	var filters listFlag
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Short: "List volumes", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			f, err := parseFilters(filters)
			if err != nil {
				return err
			}
			list, err := e.Volumes(f)
			if err != nil {
				return err
			}
			var rows []any
			for _, v := range list {
				rows = append(rows, volumeRow{Availability: "N/A", Driver: v.Driver, Group: "N/A", Labels: joinPairs(v.Labels), Links: "N/A",
					Mountpoint: v.Mountpoint, Name: v.Name, Scope: v.Scope, Size: "N/A", Status: "N/A", labels: v.Labels})
			}
			if quiet && format == "" {
				format = "{{.Name}}"
			}
			t := &table{columns: []column{{"DRIVER", "Driver"}, {"VOLUME NAME", "Name"}}, heads: map[string]string{"Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS",
				"Availability": "AVAILABILITY", "Group": "GROUP", "Links": "LINKS", "Size": "SIZE", "Status": "STATUS"}}
			return t.print(a.out, format, rows)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display volume names")
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template")
	cmd.Flags().VarP(&filters, "filter", "f", "Provide filter values (e.g. \"dangling=true\")")
	return cmd
}

func joinPairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ",")
}

func findVolume(e *engine.Engine, name string) (any, error) { return e.Volume(name) }

func newVolumeInspect(a *app) *cobra.Command {
	return inspectCommand(a, "inspect [OPTIONS] VOLUME [VOLUME...]", "Display detailed information on one or more volumes", findVolume)
}

func newVolumeRemove(a *app) *cobra.Command {
	force := false
	cmd := a.onEach("rm [OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes", func(e *engine.Engine, name string) error {
		err := e.RemoveVolume(name)
		if force && errs.Is(err, errs.NotFound) {
			return nil
		}
		return err
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Force the removal of one or more volumes")
	return cmd
}
