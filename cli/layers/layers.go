//go:build linux

// Package layers has the commands that look into images: what they are made of, how they differ, and their files.
package layers

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/imagemount"
	"github.com/berth-containers/berth/engine/layers"
	"github.com/berth-containers/berth/internal/errs"
)

// Call is one call of the program.
type Call struct {
	Open  func() (*engine.Engine, error)
	Out   io.Writer
	Width func() int                                             // columns that a line may have
	Args  func(least, most int) cobra.PositionalArgs             // checks how many arguments there are
	Each  func(names []string, do func(name string) error) error // says what goes wrong with some
}

// formatFlag is --format of commands that have nothing but JSON to offer.
func formatFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVar(format, "format", "", "Output format: json")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
}

// print writes JSON if that is wanted, and what plain writes otherwise.
func (c *Call) print(format string, v any, plain func()) error {
	switch format {
	case "":
		plain()
		return nil
	case "json":
		e := json.NewEncoder(c.Out)
		e.SetEscapeHTML(false)
		return e.Encode(v)
	}
	return errs.Text(errs.Invalid, fmt.Sprintf("--format: %q is not json", format))
}

// Tree is the command `image tree`.
func Tree(c *Call) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "tree [OPTIONS] [IMAGE...]", Short: "Show the layers of images, who uses them, and what of them is wasted", Args: c.Args(0, 1000),
		Long: "Show the layers of images, all of them when none is named: their sizes, the other images and the containers that use them, and what of\nthem nobody sees, because a layer above replaces or deletes it.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.Open()
			if err != nil {
				return err
			}
			list, err := layers.Trees(e, args)
			if err != nil {
				return err
			}
			return c.print(format, list, func() {
				for i, t := range list {
					if i > 0 {
						fmt.Fprintln(c.Out)
					}
					t.Write(c.Out, c.Width())
				}
			})
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

// Diff is the command `image diff`.
func Diff(c *Call) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "diff [OPTIONS] IMAGE IMAGE", Short: "List the files that were added (A), changed (C) or deleted (D) from one image to another", Args: c.Args(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.Open()
			if err != nil {
				return err
			}
			changes, err := layers.Diff(e, args[0], args[1])
			if err != nil {
				return err
			}
			return c.print(format, append([]layers.Change{}, changes...), func() {
				for _, change := range changes {
					fmt.Fprintln(c.Out, change.Kind, change.Path)
				}
			})
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

// Mount is the command `image mount`.
func Mount(c *Call) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "mount [OPTIONS] [IMAGE [PATH]]", Short: "Mount an image read-only, and print where; without an image, list what is mounted", Args: c.Args(0, 2),
		Long: "Mount an image read-only on a folder, or on one below the state folder, and print its path. It stays until it is unmounted, or the host\nstarts anew. Without an image, list what is mounted.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := c.Open()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				list, err := imagemount.List(e.State())
				if err != nil {
					return err
				}
				return c.print(format, append([]imagemount.Mount{}, list...), func() { c.list(list) })
			}
			m, err := imagemount.Attach(e.ImageStore(), e.State(), args[0], append(args, "")[1])
			if err != nil {
				return err
			}
			return c.print(format, m, func() { fmt.Fprintln(c.Out, m.Path) })
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

func (c *Call) list(list []imagemount.Mount) {
	w := tabwriter.NewWriter(c.Out, 10, 1, 3, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tIMAGE ID\tPATH")
	for _, m := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\n", m.Image, m.ImageID[len("sha256:"):][:12], m.Path)
	}
	_ = w.Flush()
}

// Unmount is the command `image unmount`.
func Unmount(c *Call) *cobra.Command {
	all, force := false, false
	cmd := &cobra.Command{
		Use: "unmount [OPTIONS] IMAGE|PATH [IMAGE|PATH...]", Short: "Unmount images", Args: c.Args(0, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all != (len(args) == 0) {
				return errs.Text(errs.Invalid, "name images or paths, or take --all")
			}
			e, err := c.Open()
			if err != nil {
				return err
			}
			if all {
				list, err := imagemount.List(e.State())
				if err != nil {
					return err
				}
				for _, m := range list {
					args = append(args, m.Path)
				}
			}
			return c.Each(args, func(what string) error {
				m, err := imagemount.Detach(e.ImageStore(), e.State(), what, force)
				if err == nil {
					fmt.Fprintln(c.Out, m.Path)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "Unmount all images that are mounted")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Also one that is in use: it goes when nobody uses it any more")
	return cmd
}
