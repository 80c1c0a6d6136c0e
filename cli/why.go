//go:build linux

package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine/why"
)

func newWhy(a *app) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "why [OPTIONS] CONTAINER", Short: "Say why a container ended, how certain that is, and what to do", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			c, err := e.Lookup(args[0])
			if err != nil {
				return err
			}
			r, err := why.Explain(e, c)
			if err != nil {
				return err
			}
			if format != "" {
				return (&table{}).print(a.out, format, []any{r})
			}
			a.printReport(r)
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "", `Format output using a custom template:
'json':     Print in JSON format
'TEMPLATE': Print output using the given Go template`)
	return cmd
}

func (a *app) printReport(r *why.Report) {
	fmt.Fprintf(a.out, "%s (%s): %s\n\n  %s\n  (%s)\n", r.Name, r.ID[:12], r.State, r.Verdict, r.Certainty)
	block := func(head string, lines []string) {
		for i, line := range lines {
			if i == 0 {
				fmt.Fprintf(a.out, "\n%s\n", head)
			}
			fmt.Fprintf(a.out, "  %s\n", line)
		}
	}
	block("What to do", r.Fix)
	var facts, happened []string
	widest := 0
	for _, f := range r.Facts {
		widest = max(widest, len(f.What))
	}
	for _, f := range r.Facts {
		facts = append(facts, fmt.Sprintf("%-*s  %s", widest, f.What, f.Value))
	}
	for _, h := range r.History {
		happened = append(happened, strings.TrimSpace(fmt.Sprintf("%s  %s %s", h.Time.Local().Format(time.DateTime), h.Action, h.Detail)))
	}
	block("What is known", facts)
	block("What happened", happened)
	block("Its last words", r.Log)
}
