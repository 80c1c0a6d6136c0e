//go:build linux

package cli

import (
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
			r.Write(a.out)
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "", `Format output using a custom template:
'json':     Print in JSON format
'TEMPLATE': Print output using the given Go template`)
	return cmd
}
