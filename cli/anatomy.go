//go:build linux

package cli

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine/anatomy"
	"github.com/berth-containers/berth/linux/tty"
)

func newAnatomy(a *app) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "anatomy [OPTIONS] CONTAINER", Short: "Draw a live map of a running container: namespaces, processes, limits, layers, mounts, network", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			c, err := e.Lookup(args[0])
			if err != nil {
				return err
			}
			m, err := anatomy.Draw(e, c)
			if err != nil {
				return err
			}
			if format != "" {
				return (&table{}).print(a.out, format, []any{m})
			}
			m.Write(a.out, a.width())
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "", `Format output using a custom template:
'json':     Print in JSON format
'TEMPLATE': Print output using the given Go template`)
	return cmd
}

// width is that of the terminal; 0: the output is none, and nothing is cut.
func (a *app) width() int {
	f, ok := a.out.(*os.File)
	if !ok || !tty.IsTerminal(f) {
		return 0
	}
	w, _, err := tty.GetSize(f)
	if err != nil {
		return 0
	}
	return int(w)
}
