//go:build linux

package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-containers/berth/cli/recipe"
	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
)

// recipeOf reads the command line that a container remembers, by the flags that read it then.
func recipeOf(c *engine.Container) (*recipe.Recipe, error) {
	at := slices.IndexFunc(c.Argv, func(arg string) bool { return arg == "run" || arg == "create" })
	if at < 0 {
		return nil, errs.New(errs.NotFound, "write command of container "+c.Name, errors.New("it was not made by a command line"))
	}
	r := &recipe.Recipe{Verb: c.Argv[at], Name: c.Name}
	flags, f := pflag.NewFlagSet("run", pflag.ContinueOnError), &runFlags{}
	f.register(flags, r.Verb == "create")
	flags.Bool("help", false, "")
	if err := flags.Parse(singleDash(flags, c.Argv[at+1:])); err != nil {
		return nil, errs.Wrap("write command of container "+c.Name, err)
	}
	if r.Args = flags.Args(); len(r.Args) == 0 {
		return nil, errs.New(errs.Internal, "write command of container "+c.Name, errors.New("it names no image"))
	}
	flags.Visit(func(f *pflag.Flag) {
		if list, ok := f.Value.(*listFlag); ok {
			for _, v := range *list {
				r.Options = append(r.Options, recipe.Option{Name: f.Name, Value: v})
			}
			return
		}
		value, optional := valueText(f), f.NoOptDefVal != ""
		r.Options = append(r.Options, recipe.Option{Name: f.Name, Value: value, Bare: optional && value == f.NoOptDefVal, Attached: optional})
	})
	return r, nil
}

// valueText writes a value so that the flag reads it.
func valueText(f *pflag.Flag) string {
	switch v := f.Value.(type) {
	case *bytesFlag:
		return fmt.Sprint(int64(*v))
	case *cpusFlag:
		return strings.TrimSuffix(strings.TrimRight(v.String(), "0"), ".")
	}
	return f.Value.String()
}

// writeAs gives an inspect the flag that writes what made containers.
func (a *app) writeAs(cmd *cobra.Command) {
	form, inspect := "", cmd.RunE
	cmd.Flags().StringVar(&form, "as", "", "Write what makes the container: run, compose, systemd")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch form {
		case "":
			return inspect(cmd, args)
		case "run", "compose", "systemd":
			return a.each(args, func(name string) error {
				return a.withContainer(name, func(c *engine.Container) error { return a.writeRecipe(c, form) })
			})
		}
		return invalid("--as: %q is not run, compose or systemd", form)
	}
	_ = cmd.RegisterFlagCompletionFunc("as", cobra.FixedCompletions([]string{"run", "compose", "systemd"}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) writeRecipe(c *engine.Container, form string) error {
	r, err := recipeOf(c)
	if err != nil {
		return err
	}
	text := ""
	switch form {
	case "run":
		text = r.Run()
	case "compose":
		text = r.Compose(networkOf)
	case "systemd":
		program, err := os.Executable()
		if err != nil {
			return errs.Wrap("find this program", err)
		}
		text = r.Systemd(program)
	}
	_, err = fmt.Fprint(a.out, text)
	return err
}

// networkOf reads a --network for a compose file.
func networkOf(spec string) (recipe.Network, error) {
	name, settings, err := parseNetwork(spec)
	if err != nil {
		return recipe.Network{}, err
	}
	n := recipe.Network{Name: name, Aliases: settings.Aliases}
	if ip := settings.IPAMConfig; ip != nil {
		n.IPv4, n.IPv6 = ip.IPv4Address, ip.IPv6Address
	}
	return n, nil
}
