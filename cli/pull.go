//go:build linux

package cli

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/cli/progress"
	"github.com/berth-containers/berth/cli/space"
	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/outdated"
)

// interruptible ends what is under way when the user wants it.
func interruptible(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
}

func newPull(a *app) *cobra.Command {
	quiet, all, platform, key := false, false, "", ""
	cmd := &cobra.Command{
		Use: "pull [OPTIONS] NAME[:TAG|@DIGEST]", Short: "Download an image from a registry", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			if all {
				o := engine.TransferOptions{Platform: platform, VerifyKey: key, Progress: progress.New(a.out, quiet).Teller()}
				if err := e.PullAll(ctx, args[0], o, func(p *engine.Pulled) { sayPulled(a.out, p, quiet) }); err != nil {
					return err
				}
				return space.Keep(e, a.err)
			}
			if !quiet && !strings.ContainsAny(args[0][strings.LastIndexByte(args[0], '/')+1:], ":@") {
				fmt.Fprintln(a.out, "Using default tag: latest")
			}
			return a.pull(ctx, e, args[0], engine.TransferOptions{Platform: platform, VerifyKey: key}, a.out, quiet)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	cmd.Flags().BoolVarP(&all, "all-tags", "a", false, "Download all tagged images in the repository")
	cmd.Flags().StringVar(&platform, "platform", "", "Set platform if server is multi-platform capable")
	cmd.Flags().StringVar(&key, "verify-key", "", "Refuse what is not signed (cosign) by a public key in this file")
	return cmd
}

// pull fetches an image, and says so in Docker's words.
func (a *app) pull(ctx context.Context, e *engine.Engine, name string, o engine.TransferOptions, w io.Writer, quiet bool) error {
	o.Progress = progress.New(w, quiet).Teller()
	p, err := e.Pull(ctx, name, o)
	if err != nil {
		return err
	}
	sayPulled(w, p, quiet)
	return space.Keep(e, a.err)
}

func sayPulled(w io.Writer, p *engine.Pulled, quiet bool) {
	if quiet {
		fmt.Fprintln(w, p.Name)
		return
	}
	status := "Image is up to date for "
	if p.New {
		status = "Downloaded newer image for "
	}
	fmt.Fprintf(w, "Digest: %s\nStatus: %s%s\n%s\n", p.Digest, status, strings.TrimPrefix(strings.TrimPrefix(p.Name, "docker.io/library/"), "docker.io/"), p.Name)
}

func newPush(a *app) *cobra.Command {
	quiet, all, platform := false, false, ""
	cmd := &cobra.Command{
		Use: "push [OPTIONS] NAME[:TAG]", Short: "Upload an image to a registry", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			o := engine.TransferOptions{Platform: platform, Progress: progress.New(a.out, quiet).Teller()}
			say := func(name string, p *engine.Pushed) {
				if quiet {
					fmt.Fprintln(a.out, name)
				} else {
					fmt.Fprintf(a.out, "%s: digest: %s size: %d\n", p.Tag, p.Digest, p.Size)
				}
			}
			if all {
				return e.PushAll(ctx, args[0], o, say)
			}
			p, err := e.Push(ctx, args[0], o)
			if err == nil {
				say(args[0], p)
			}
			return err
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress verbose output")
	cmd.Flags().BoolVarP(&all, "all-tags", "a", false, "Push all tags of an image to the repository")
	cmd.Flags().StringVar(&platform, "platform", "", "Push only if the image is for this platform: os/arch[/variant]")
	return cmd
}

// outdatedRow is a line of outdated.
type outdatedRow struct{ Image, Here, There, Users string }

func newOutdated(a *app) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "outdated [OPTIONS] [IMAGE...]", Short: "List images whose names mean something newer at their registries", Args: cobra.ArbitraryArgs,
		Long: "List images whose names mean something newer at their registries, and the containers that were made of what is here. Nothing is fetched.",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			failed := false
			rows := []any{}
			err = outdated.Find(ctx, e, args, func(o outdated.Image, newer bool, err error) {
				if err != nil {
					failed = true
					a.complain(err)
				} else if newer {
					rows = append(rows, outdatedRow{o.Name, shortID(o.Here), shortID(o.There), strings.Join(o.Users, ",")})
				}
			})
			if err != nil {
				return err
			}
			t := &table{columns: []column{{"IMAGE", "Image"}, {"HERE", "Here"}, {"THERE", "There"}, {"CONTAINERS", "Users"}}}
			if err := t.print(a.out, format, rows); err != nil || !failed {
				return err
			}
			return exitCode(1)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'")
	return cmd
}
