//go:build linux

package registries

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine/registries"
)

// row is a line of search.
type row struct {
	Name, Description       string
	StarCount               int
	IsOfficial, IsAutomated string
}

// shortest is how much of a description a table shows.
const shortest = 45

// Search is the command `search`.
func Search(c *Call) *cobra.Command {
	var filters []string
	limit, noTrunc, format := 25, false, ""
	cmd := &cobra.Command{
		Use: "search [OPTIONS] TERM", Short: "Search Docker Hub, or another registry, for images", Args: c.Args(1, 1),
		Long: "Search Docker Hub for images, or with HOST/TERM another registry. Of one that cannot search, all names are fetched that have TERM in them.",
		RunE: c.run(func(ctx context.Context, _ *registries.Lists, args []string) error {
			where, err := c.Where(filters)
			if err != nil {
				return err
			}
			found, err := registries.Search(ctx, args[0], limit, where)
			if err != nil {
				return err
			}
			rows := []any{}
			for _, h := range found {
				r := row{Name: h.Name, Description: strings.Join(strings.Fields(h.Description), " "), StarCount: h.Stars, IsOfficial: ok(h.Official), IsAutomated: ok(h.Automated)}
				if d := []rune(r.Description); !noTrunc && len(d) > shortest {
					r.Description = string(d[:shortest-1]) + "…"
				}
				rows = append(rows, r)
			}
			return c.Table([][2]string{{"NAME", "Name"}, {"DESCRIPTION", "Description"}, {"STARS", "StarCount"}, {"OFFICIAL", "IsOfficial"}}, format, rows)
		}),
	}
	cmd.Flags().StringArrayVarP(&filters, "filter", "f", nil, "Filter output based on conditions provided")
	cmd.Flags().IntVar(&limit, "limit", limit, "Max number of search results")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	cmd.Flags().StringVar(&format, "format", "", "Pretty-print search using a Go template")
	return cmd
}

func ok(is bool) string {
	if is {
		return "[OK]"
	}
	return ""
}
