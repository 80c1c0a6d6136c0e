//go:build linux

package cli

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
)

// egressRow is a line of `egress`.
type egressRow struct{ Time, What, Verdict string }

func newEgress(a *app) *cobra.Command {
	format, list := "", false
	cmd := &cobra.Command{
		Use: "egress [OPTIONS] CONTAINER", Short: "Show what a container with limited egress wanted to reach", Args: exactArgs(1),
		Long: `Show what a container wanted to reach that was made with --egress: what was refused, or, with --egress learn, everything.
Each name and address stands there once.

--list prints what was seen as one value for --egress.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainer(args[0], func(c *engine.Container) error {
				if len(c.Egress) == 0 {
					return invalid("container %s has no limited egress; it was made without --egress", c.Name)
				}
				seen, err := c.Seen()
				if err != nil {
					return err
				}
				var rows []any
				var values []string
				for _, s := range seen {
					verdict := "allowed"
					if s.Refused {
						verdict = "refused"
					}
					rows = append(rows, egressRow{s.Time.Format(time.RFC3339), s.What, verdict})
					if value, _, _ := strings.Cut(s.What, "/"); !slices.Contains(values, value) {
						values = append(values, value)
					}
				}
				if list {
					if len(values) == 0 {
						values = []string{"none"}
					}
					slices.Sort(values)
					format, rows = "{{.What}}", []any{egressRow{What: strings.Join(values, ",")}}
				}
				t := &table{columns: []column{{"TIME", "Time"}, {"VERDICT", "Verdict"}, {"WHAT", "What"}}}
				return t.print(a.out, format, rows)
			})
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "Print one value for --egress")
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template")
	return cmd
}
