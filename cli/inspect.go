//go:build linux

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
)

// finder finds an object by its name, for inspect.
type finder func(e *engine.Engine, name string) (any, error)

func findContainer(size *bool) finder {
	return func(e *engine.Engine, name string) (any, error) {
		c, err := e.Lookup(name)
		if err != nil {
			return nil, err
		}
		return c.Inspect(*size), nil
	}
}

func findImage(e *engine.Engine, name string) (any, error) { return e.InspectImage(name) }

// inspectAll prints all objects that are there, and then says which are not.
func (a *app) inspectAll(format string, names []string, find finder) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	var found []any
	var missing []error
	for _, name := range names {
		v, err := find(e, name)
		if err != nil {
			missing = append(missing, err)
			continue
		}
		found = append(found, v)
	}
	if err := inspected(a.out, format, found); err != nil {
		return err
	}
	for _, err := range missing {
		a.complain(err)
	}
	if len(missing) > 0 {
		return exitCode(1)
	}
	return nil
}

// inspectCommand makes an inspect of one kind of objects.
func inspectCommand(a *app, use, short string, find finder) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: use, Short: short, Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.inspectAll(format, args, find) },
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format output using a custom template: 'json', 'TEMPLATE'")
	return cmd
}

func newContainerInspect(a *app) *cobra.Command {
	size := false
	cmd := inspectCommand(a, "inspect [OPTIONS] CONTAINER [CONTAINER...]", "Display detailed information on one or more containers", findContainer(&size))
	cmd.Flags().BoolVarP(&size, "size", "s", false, "Display total file sizes")
	a.writeAs(cmd)
	return cmd
}

func newImageInspect(a *app) *cobra.Command {
	return inspectCommand(a, "inspect [OPTIONS] IMAGE [IMAGE...]", "Display detailed information on one or more images", findImage)
}

func newInspect(a *app) *cobra.Command {
	size, kind := false, ""
	kinds := []struct {
		name string
		find finder
	}{{"container", findContainer(&size)}, {"image", findImage}, {"network", findNetwork}, {"volume", findVolume}}
	cmd := inspectCommand(a, "inspect [OPTIONS] NAME|ID [NAME|ID...]", "Return low-level information on Berth objects", func(e *engine.Engine, name string) (any, error) {
		known := false
		for _, k := range kinds {
			if kind != "" && kind != k.name {
				continue
			}
			known = true
			v, err := k.find(e, name)
			if err == nil || !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Invalid) {
				return v, err
			}
		}
		if !known {
			return nil, invalid("%q is not a valid value for --type", kind)
		}
		what := kind
		if what == "" {
			what = "object"
		}
		return nil, errs.Text(errs.NotFound, fmt.Sprintf("No such %s: %s", what, name))
	})
	cmd.Flags().BoolVarP(&size, "size", "s", false, "Display total file sizes if the type is container")
	cmd.Flags().StringVar(&kind, "type", "", "Only inspect objects of the given type")
	a.writeAs(cmd)
	return cmd
}
