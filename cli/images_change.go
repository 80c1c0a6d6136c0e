//go:build linux

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/cli/space"
	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/tty"
)

func newTag(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", Short: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return e.Tag(args[0], args[1])
		},
	}
}

func newRemoveImage(a *app) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use: "rmi [OPTIONS] IMAGE [IMAGE...]", Short: "Remove one or more images", Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			return a.each(args, func(name string) error {
				r, err := e.RemoveImage(name, force)
				if force && errs.Is(err, errs.NotFound) {
					return nil
				}
				if r == nil {
					return err
				}
				for _, name := range r.Untagged {
					fmt.Fprintln(a.out, "Untagged: "+name)
				}
				for _, id := range r.Deleted {
					fmt.Fprintln(a.out, "Deleted: "+id)
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Force removal of the image")
	cmd.Flags().Bool("no-prune", false, "Do not delete untagged parents")
	return cmd
}

// historyRow is a line of `history`.
type historyRow struct{ ID, CreatedSince, CreatedAt, CreatedBy, Size, Comment string }

func newHistory(a *app) *cobra.Command {
	quiet, noTrunc, human, format := false, false, true, ""
	cmd := &cobra.Command{
		Use: "history [OPTIONS] IMAGE", Short: "Show the history of an image", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			list, err := e.History(args[0])
			if err != nil {
				return err
			}
			var rows []any
			for _, h := range list {
				r := historyRow{ID: h.ID, CreatedSince: units.HumanDuration(time.Since(h.Created)) + " ago", CreatedAt: h.Created.Format(time.RFC3339), CreatedBy: strings.ReplaceAll(h.CreatedBy, "\t", " "),
					Size: humanSize(h.Size), Comment: h.Comment}
				if !human {
					r.Size, r.CreatedSince = fmt.Sprint(h.Size), r.CreatedAt
				}
				if !noTrunc {
					if strings.HasPrefix(r.ID, "sha256:") {
						r.ID = shortID(r.ID)
					}
					if by := []rune(r.CreatedBy); len(by) > 45 {
						r.CreatedBy = string(by[:44]) + "…"
					}
				}
				rows = append(rows, r)
			}
			if quiet && format == "" {
				format = "{{.ID}}"
			}
			t := &table{columns: []column{{"IMAGE", "ID"}, {"CREATED", "CreatedSince"}, {"CREATED BY", "CreatedBy"}, {"SIZE", "Size"}, {"COMMENT", "Comment"}}, heads: map[string]string{"CreatedAt": "CREATED AT"}}
			return t.print(a.out, format, rows)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only show image IDs")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	cmd.Flags().BoolVarP(&human, "human", "H", true, "Print sizes and dates in human readable format")
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template")
	return cmd
}

// output is where an archive goes; done keeps it, or with an error leaves everything as it was.
type output struct {
	io.Writer
	done func(err error) error
}

// output opens what save and export write to: a file appears, or is replaced, when it is whole. A terminal is no place for
// an archive, nor is a device.
func (a *app) output(file string) (output, error) {
	if file == "" {
		if f, ok := a.out.(*os.File); ok && tty.IsTerminal(f) {
			return output{}, errs.Text(errs.Invalid, "cowardly refusing to save to a terminal. Use the -o flag or redirect")
		}
		return output{a.out, func(err error) error { return err }}, nil
	}
	fi, err := os.Stat(file)
	switch {
	case err == nil && fi.Mode()&os.ModeDevice != 0:
		return output{}, invalid("invalid output path: %q must be a directory or a regular file: got a device", file)
	case err == nil && !fi.Mode().IsRegular():
		f, err := os.OpenFile(file, os.O_WRONLY, 0) // a pipe; of a folder it is an error
		if err != nil {
			return output{}, errs.New(errs.Invalid, "", err)
		}
		return output{f, func(err error) error { return errors.Join(err, f.Close()) }}, nil
	case err == nil:
		if file, err = filepath.EvalSymlinks(file); err != nil {
			return output{}, errs.New(errs.Invalid, "", err)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".berth-")
	if err != nil {
		return output{}, errs.New(errs.Invalid, "invalid output path "+file, err)
	}
	return output{f, func(err error) error {
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), file)
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
		return err
	}}, nil
}

// writeTo writes an archive to a file or standard output.
func (a *app) writeTo(file string, write func(w io.Writer) error) error {
	out, err := a.output(file)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriterSize(out, 256<<10)
	if err = write(buffered); err == nil {
		err = buffered.Flush()
	}
	return out.done(err)
}

func newSave(a *app) *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use: "save [OPTIONS] IMAGE [IMAGE...]", Short: "Save one or more images to a tar archive (streamed to STDOUT by default)", Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			for _, name := range args { // before a file is made
				if _, err := e.InspectImage(name); err != nil {
					return err
				}
			}
			return a.writeTo(file, func(w io.Writer) error { return e.Save(w, args) })
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "Write to a file, instead of STDOUT")
	return cmd
}

func newLoad(a *app) *cobra.Command {
	file, quiet := "", false
	cmd := &cobra.Command{
		Use: "load [OPTIONS]", Short: "Load an image from a tar archive or STDIN", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			in := a.in
			if file != "" {
				f, err := os.Open(file)
				if err != nil {
					return errs.New(errs.Invalid, "", err)
				}
				defer f.Close()
				in = f
			} else if tty.IsTerminal(in) {
				return errs.Text(errs.Invalid, "requested load from stdin, but stdin is empty")
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			names, err := e.Load(in)
			for _, name := range names {
				fmt.Fprintln(a.out, name)
			}
			if err != nil {
				return err
			}
			return space.Keep(e, a.err)
		},
	}
	cmd.Flags().StringVarP(&file, "input", "i", "", "Read from tar archive file, instead of STDIN")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Suppress the load output")
	return cmd
}

func newExport(a *app) *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use: "export [OPTIONS] CONTAINER", Short: "Export a container's filesystem as a tar archive", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainer(args[0], func(c *engine.Container) error { return a.writeTo(file, c.Export) })
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "Write to a file, instead of STDOUT")
	return cmd
}

func newCommit(a *app) *cobra.Command {
	o := engine.CommitOptions{}
	var changes listFlag
	pause := true
	cmd := &cobra.Command{
		Use: "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]", Short: "Create a new image from a container's changes", Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 {
				return invalid("%q requires at most 2 arguments", cmd.CommandPath())
			}
			if len(args) == 2 {
				o.Ref = args[1]
			}
			o.Changes, o.NoPause = changes, o.NoPause || !pause
			return a.withContainer(args[0], func(c *engine.Container) error {
				id, err := c.Commit(o)
				if err != nil {
					return err
				}
				fmt.Fprintln(a.out, id)
				e, err := a.open()
				if err != nil {
					return err
				}
				return space.Keep(e, a.err)
			})
		},
	}
	cmd.Flags().StringVarP(&o.Author, "author", "a", "", "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")")
	cmd.Flags().StringVarP(&o.Message, "message", "m", "", "Commit message")
	cmd.Flags().VarP(&changes, "change", "c", "Apply Dockerfile instruction to the created image")
	cmd.Flags().BoolVar(&o.NoPause, "no-pause", false, "Disable pausing container during commit")
	cmd.Flags().BoolVarP(&pause, "pause", "p", true, "Pause container during commit")
	_ = cmd.Flags().MarkHidden("pause")
	return cmd
}

func newDiff(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "diff CONTAINER", Short: "Inspect changes to files or directories on a container's filesystem", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainer(args[0], func(c *engine.Container) error {
				changes, err := c.Diff()
				for _, change := range changes {
					fmt.Fprintln(a.out, change.Kind, change.Path)
				}
				return err
			})
		},
	}
}

func newCopy(a *app) *cobra.Command {
	o := engine.CopyOptions{}
	cmd := &cobra.Command{
		Use: "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH", Short: "Copy files/folders between a container and the local filesystem", Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, source, fromContainer := containerPath(args[0])
			to, destination, toContainer := containerPath(args[1])
			switch {
			case fromContainer && toContainer:
				return invalid("copying between containers is not supported")
			case fromContainer:
				return a.withContainer(from, func(c *engine.Container) error {
					if destination == "-" {
						return a.writeTo("", func(w io.Writer) error { return c.CopyFrom(source, w, o) })
					}
					return c.CopyOut(source, destination, o)
				})
			case toContainer:
				return a.withContainer(to, func(c *engine.Container) error {
					if source == "-" {
						return c.CopyTo(destination, a.in, o)
					}
					return c.CopyIn(source, destination, o)
				})
			}
			return invalid("must specify at least one container source")
		},
	}
	cmd.Flags().BoolVarP(&o.Archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	cmd.Flags().BoolVarP(&o.FollowLink, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	cmd.Flags().BoolP("quiet", "q", false, "Suppress progress output during copy")
	return cmd
}

// containerPath splits CONTAINER:PATH; a name with a / before the : is a path of the host.
func containerPath(arg string) (container, path string, ok bool) {
	name, rest, found := strings.Cut(arg, ":")
	if !found || strings.HasPrefix(arg, ".") || strings.HasPrefix(arg, "/") || name == "" {
		return "", arg, false
	}
	return name, rest, true
}
