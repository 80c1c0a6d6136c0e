//go:build linux

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/doctor"
	"github.com/berth-containers/berth/engine/leaks"
)

func newDoctor(a *app) *cobra.Command {
	format, lost, fix := "", false, false
	cmd := &cobra.Command{
		Use: "doctor [OPTIONS]", Short: "Say what this kernel and host lack, or what was left behind, and how to mend it", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "" && format != "json" {
				return invalid("--format: %q is not json", format)
			}
			if fix && !lost {
				return invalid("--fix goes with --leaks")
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			if lost {
				return a.showLeaks(e, format, fix)
			}
			return a.showFindings(doctor.Examine(e.Root()), format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "json")
	cmd.Flags().BoolVar(&lost, "leaks", false, "Look for control groups, namespaces, links, processes and files that belong to no container")
	cmd.Flags().BoolVar(&fix, "fix", false, "Remove what --leaks finds")
	return cmd
}

func (a *app) showFindings(findings []doctor.Finding, format string) error {
	broken := false
	for _, f := range findings {
		broken = broken || f.Level == doctor.Broken
		if format == "json" {
			continue
		}
		fmt.Fprintf(a.out, "%-8s %-14s %s\n", f.Level, f.What, f.Text)
		if f.Fix != "" {
			fmt.Fprintf(a.out, "%-8s %-14s → %s\n", "", "", f.Fix)
		}
	}
	if format == "json" {
		if err := printOne(a.out, format, findings, nil); err != nil {
			return err
		}
	}
	if broken {
		return exitCode(1)
	}
	return nil
}

// showLeaks ends with status 1 when something is left.
func (a *app) showLeaks(e *engine.Engine, format string, fix bool) error {
	found, err := leaks.Find(e, fix)
	if err != nil {
		return err
	}
	left := false
	for _, l := range found {
		left = left || !l.Fixed
		if format == "json" {
			continue
		}
		state := ""
		switch {
		case l.Fixed:
			state = " (removed)"
		case l.Error != "":
			state = " (" + l.Error + ")"
		}
		fmt.Fprintf(a.out, "%-18s %s: %s%s\n", l.Kind, l.What, l.Why, state)
	}
	if format == "json" {
		if found == nil {
			found = []leaks.Leak{}
		}
		if err := printOne(a.out, format, found, nil); err != nil {
			return err
		}
	} else if len(found) == 0 {
		fmt.Fprintln(a.out, "Nothing is left behind.")
	}
	if left {
		return exitCode(1)
	}
	return nil
}
