//go:build linux

// Package registries has the commands that ask registries without an image of the store: login, logout, search and manifest.
package registries

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/registries"
)

// Call is one call of the program.
type Call struct {
	Open  func() (*engine.Engine, error)
	In    *os.File
	Out   io.Writer
	Err   io.Writer
	Args  func(least, most int) cobra.PositionalArgs                 // checks how many arguments there are
	Each  func(names []string, do func(name string) error) error     // says what goes wrong with some
	Table func(columns [][2]string, format string, rows []any) error // heads and fields
	Where func(filters []string) (engine.Filters, error)             // reads --filter
}

// many is no limit that anybody meets.
const many = 10000

// run makes the body of a command: with the lists that are here, until the user interrupts it.
func (c *Call) run(do func(ctx context.Context, s *registries.Lists, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		e, err := c.Open()
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
		defer stop()
		return do(ctx, registries.Open(e.Root()), args)
	}
}

// complete offers the lists that are here.
func (c *Call) complete(cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		e, err := c.Open()
		if err != nil || len(args) > 0 && cmd.Name() != "rm" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return registries.Open(e.Root()).Names(), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func insecureFlag(cmd *cobra.Command, insecure *bool) {
	cmd.Flags().BoolVar(insecure, "insecure", false, "Allow communication with an insecure registry")
}

// Create is the command `manifest create`.
func Create(c *Call) *cobra.Command {
	amend, insecure := false, false
	cmd := &cobra.Command{
		Use: "create MANIFEST_LIST MANIFEST [MANIFEST...]", Short: "Create a local manifest list for annotating and pushing to a registry", Args: c.Args(2, many),
		RunE: c.run(func(ctx context.Context, s *registries.Lists, args []string) error {
			name, err := s.Create(ctx, args[0], args[1:], amend, insecure)
			if err == nil {
				fmt.Fprintln(c.Out, "Created manifest list "+name)
			}
			return err
		}),
	}
	cmd.Flags().BoolVarP(&amend, "amend", "a", false, "Amend an existing manifest list")
	insecureFlag(cmd, &insecure)
	return cmd
}

// Annotate is the command `manifest annotate`.
func Annotate(c *Call) *cobra.Command {
	p := v1.Platform{}
	cmd := &cobra.Command{
		Use: "annotate [OPTIONS] MANIFEST_LIST MANIFEST", Short: "Add additional information to a local image manifest", Args: c.Args(2, 2),
		RunE: c.run(func(_ context.Context, s *registries.Lists, args []string) error {
			return s.Annotate(args[0], args[1], p)
		}),
	}
	cmd.Flags().StringVar(&p.OS, "os", "", "Set operating system")
	cmd.Flags().StringVar(&p.Architecture, "arch", "", "Set architecture")
	cmd.Flags().StringVar(&p.OSVersion, "os-version", "", "Set operating system version")
	cmd.Flags().StringSliceVar(&p.OSFeatures, "os-features", nil, "Set operating system feature")
	cmd.Flags().StringVar(&p.Variant, "variant", "", "Set architecture variant")
	return c.complete(cmd)
}

// Inspect is the command `manifest inspect`.
func Inspect(c *Call) *cobra.Command {
	verbose, insecure := false, false
	cmd := &cobra.Command{
		Use: "inspect [OPTIONS] [MANIFEST_LIST] MANIFEST", Short: "Display an image manifest, or manifest list", Args: c.Args(1, 2),
		RunE: c.run(func(ctx context.Context, s *registries.Lists, args []string) error {
			var found any
			var err error
			if len(args) == 2 {
				found, err = s.InspectIn(args[0], args[1], verbose)
			} else {
				found, err = s.Inspect(ctx, args[0], verbose, insecure)
			}
			if err != nil {
				return err
			}
			indent := "\t"
			if _, index := found.(registries.Index); index { // as docker has it
				indent = "   "
			}
			text, err := json.MarshalIndent(found, "", indent)
			if err == nil {
				fmt.Fprintln(c.Out, string(text))
			}
			return err
		}),
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "Output additional info including layers and platform")
	insecureFlag(cmd, &insecure)
	return c.complete(cmd)
}

// Push is the command `manifest push`.
func Push(c *Call) *cobra.Command {
	purge, insecure := false, false
	cmd := &cobra.Command{
		Use: "push [OPTIONS] MANIFEST_LIST", Short: "Push a manifest list to a repository", Args: c.Args(1, 1),
		RunE: c.run(func(ctx context.Context, s *registries.Lists, args []string) error {
			d, err := s.Push(ctx, args[0], purge, insecure, func(ref, digest string) {
				fmt.Fprintf(c.Out, "Pushed ref %s with digest: %s\n", ref, digest)
			})
			if err == nil {
				fmt.Fprintln(c.Out, d)
			}
			return err
		}),
	}
	cmd.Flags().BoolVarP(&purge, "purge", "p", false, "Remove the local manifest list after push")
	insecureFlag(cmd, &insecure)
	return c.complete(cmd)
}

// Remove is the command `manifest rm`.
func Remove(c *Call) *cobra.Command {
	return c.complete(&cobra.Command{
		Use: "rm MANIFEST_LIST [MANIFEST_LIST...]", Short: "Delete one or more manifest lists from local storage", Args: c.Args(1, many),
		RunE: c.run(func(_ context.Context, s *registries.Lists, args []string) error { return c.Each(args, s.Remove) }),
	})
}
