//go:build linux

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/doctor"
	"github.com/berth-containers/berth/engine/fsck"
	"github.com/berth-containers/berth/engine/leaks"
)

func newDoctor(a *app) *cobra.Command {
	format, lost, fix, store, repair := "", false, false, false, false
	cmd := &cobra.Command{
		Use: "doctor [OPTIONS]", Short: "Say what this kernel and host lack, or what was left behind, and how to mend it", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "" && format != "json" {
				return invalid("--format: %q is not json", format)
			}
			if fix && !lost {
				return invalid("--fix goes with --leaks")
			}
			if repair && !store || store && lost {
				return invalid("--repair goes with --store, and --store not with --leaks")
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			if store {
				return a.showFlaws(e, format, repair)
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
	cmd.Flags().BoolVar(&store, "store", false, "Read all that is kept of images, and look for what is damaged or missing")
	cmd.Flags().BoolVar(&repair, "repair", false, "Mend what --store finds")
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
	return showFound(a, format, found, "Nothing is left behind.", func(l leaks.Leak) (text string, fixed bool) {
		return fmt.Sprintf("%-18s %s: %s%s\n", l.Kind, l.What, l.Why, became(l.Fixed, "removed", l.Error)), l.Fixed
	})
}

// showFlaws ends with status 1 when something is not as it must be.
func (a *app) showFlaws(e *engine.Engine, format string, repair bool) error {
	found, err := fsck.Check(e, repair)
	if err != nil {
		return err
	}
	return showFound(a, format, found, "Everything is whole.", func(r fsck.Result) (text string, fixed bool) {
		text = fmt.Sprintf("%-10s %s: %s%s\n", r.Kind, r.What, r.Why, became(r.Fixed, "mended", r.Error))
		if r.Advice != "" {
			text += fmt.Sprintf("%-10s → %s\n", "", r.Advice)
		}
		return text, r.Fixed && r.Advice == ""
	})
}

func became(fixed bool, how, failed string) string {
	switch {
	case fixed:
		return " (" + how + ")"
	case failed != "":
		return " (" + failed + ")"
	}
	return ""
}

// showFound lists what a check has found. One thing that is left makes exit status 1.
func showFound[T any](a *app, format string, found []T, nothing string, line func(T) (text string, fixed bool)) error {
	left := false
	for _, f := range found {
		text, fixed := line(f)
		if left = left || !fixed; format != "json" {
			fmt.Fprint(a.out, text)
		}
	}
	if format == "json" {
		if err := printOne(a.out, format, append([]T{}, found...), nil); err != nil {
			return err
		}
	} else if len(found) == 0 {
		fmt.Fprintln(a.out, nothing)
	}
	if left {
		return exitCode(1)
	}
	return nil
}
