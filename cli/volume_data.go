//go:build linux

package cli

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
)

// withEngine is the body of a command that needs nothing but the engine and its arguments.
func (a *app) withEngine(do func(e *engine.Engine, args []string) error) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		e, err := a.open()
		if err != nil {
			return err
		}
		return do(e, args)
	}
}

func newVolumeExport(a *app) *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use: "export [OPTIONS] VOLUME", Short: "Export a volume's files as a tar archive (streamed to STDOUT by default)", Args: exactArgs(1),
		Long: "Export a volume's files as a tar archive, with owners, times, extended attributes, hard links and holes.",
		RunE: a.withEngine(func(e *engine.Engine, args []string) error {
			if _, err := e.Volume(args[0]); err != nil { // before a file is made
				return err
			}
			return a.writeTo(file, func(w io.Writer) error { return e.ExportVolume(w, args[0]) })
		}),
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "Write to a file, instead of STDOUT")
	return cmd
}

func newVolumeImport(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "import VOLUME [FILE|-]", Short: "Make a volume of a tar archive, or fill an empty one",
		Long: "Make a volume of a tar archive, which may be compressed, from a file or STDIN. A volume that is there must be empty and not in use. What fails leaves no volume.",
		Args: rangeArgs(1, 2),
		RunE: a.withEngine(func(e *engine.Engine, args []string) error {
			in := a.in
			if len(args) == 2 && args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return errs.New(errs.Invalid, "", err)
				}
				defer f.Close()
				in = f
			}
			err := e.ImportVolume(in, args[0])
			if err == nil {
				fmt.Fprintln(a.out, args[0])
			}
			return err
		}),
	}
}

func newVolumeCopy(a *app) *cobra.Command {
	o := engine.CopyOptions{}
	cmd := &cobra.Command{
		Use: "cp [OPTIONS] VOLUME:SRC_PATH DEST_PATH|- | SRC_PATH|- VOLUME:DEST_PATH", Short: "Copy files/folders between a volume and the local filesystem", Args: exactArgs(2),
		RunE: a.withEngine(func(e *engine.Engine, args []string) error {
			from, source, fromVolume := containerPath(args[0])
			to, destination, toVolume := containerPath(args[1])
			switch {
			case fromVolume && toVolume:
				return errs.Text(errs.Invalid, "copying between volumes is not supported").WithHint("berth volume clone copies a whole one")
			case fromVolume && destination == "-":
				return a.writeTo("", func(w io.Writer) error { return e.VolumeTree(from).CopyFrom(source, w, o) })
			case fromVolume:
				return e.VolumeTree(from).CopyOut(source, destination, o)
			case toVolume && source == "-":
				return e.VolumeTree(to).CopyTo(destination, a.in)
			case toVolume:
				return e.VolumeTree(to).CopyIn(source, destination, o)
			}
			return invalid("must specify at least one volume source")
		}),
	}
	cmd.Flags().BoolVarP(&o.Archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	cmd.Flags().BoolVarP(&o.FollowLink, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	return cmd
}

func newVolumeRename(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "rename VOLUME NEW_NAME", Short: "Rename a volume that no container has", Args: exactArgs(2),
		RunE: a.withEngine(func(e *engine.Engine, args []string) error { return e.RenameVolume(args[0], args[1]) }),
	}
}

func newVolumeClone(a *app) *cobra.Command {
	pause := true
	var labels listFlag
	cmd := &cobra.Command{
		Use: "clone [OPTIONS] VOLUME NEW_NAME", Short: "Make a volume with a copy of another's files", Args: exactArgs(2),
		RunE: a.withEngine(func(e *engine.Engine, args []string) error {
			v, err := e.CloneVolume(args[0], args[1], pairs(labels), false, pause)
			if err == nil {
				fmt.Fprintln(a.out, v.Name)
			}
			return err
		}),
	}
	cmd.Flags().Var(&labels, "label", "Set metadata for the new volume")
	cmd.Flags().BoolVarP(&pause, "pause", "p", true, "Pause the containers that have the volume during the copy")
	return cmd
}

func newVolumeSnapshot(a *app) *cobra.Command {
	pause := true
	cmd := &cobra.Command{
		Use: "snapshot [OPTIONS] VOLUME [NEW_NAME]", Short: "Keep a volume's state as a volume of its own", Args: rangeArgs(1, 2),
		Long: "Keep a volume's state as a volume of its own. Without a name it gets the volume's with the time. `berth volume ls --filter label=berth.snapshot.of=VOLUME` lists them; to go back, clone one.",
		RunE: a.withEngine(func(e *engine.Engine, args []string) error {
			v, err := e.CloneVolume(args[0], strings.Join(args[1:], ""), nil, true, pause)
			if err == nil {
				fmt.Fprintln(a.out, v.Name)
			}
			return err
		}),
	}
	cmd.Flags().BoolVarP(&pause, "pause", "p", true, "Pause the containers that have the volume during the copy")
	return cmd
}

// usageRow is a line of `volume du`.
type usageRow struct{ Name, Size, Disk, Files, Links string }

func newVolumeUsage(a *app) *cobra.Command {
	format, exact := "", false
	cmd := &cobra.Command{
		Use: "du [OPTIONS] [VOLUME...]", Short: "Show how much of the disk volumes take",
		RunE: a.withEngine(func(e *engine.Engine, args []string) error {
			if len(args) == 0 {
				all, err := e.Volumes(nil)
				if err != nil {
					return err
				}
				for _, v := range all {
					args = append(args, v.Name)
				}
			}
			size := humanSize
			if exact {
				size = func(n int64) string { return fmt.Sprint(n) }
			}
			var rows []any
			failed := a.each(args, func(name string) error {
				u, err := e.VolumeUsage(name)
				if err == nil {
					rows = append(rows, usageRow{name, size(u.Size), size(u.Disk), fmt.Sprint(u.Files), fmt.Sprint(e.VolumeUsers(name))})
				}
				return err
			})
			t := &table{columns: []column{{"VOLUME NAME", "Name"}, {"LINKS", "Links"}, {"FILES", "Files"}, {"SIZE", "Size"}, {"ON DISK", "Disk"}}}
			if err := t.print(a.out, format, rows); err != nil {
				return err
			}
			return failed
		}),
	}
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template")
	cmd.Flags().BoolVarP(&exact, "bytes", "b", false, "Print sizes in bytes")
	return cmd
}

// fileRow is a line of `volume files`.
type fileRow struct{ Mode, Owner, Size, Modified, Path, Link string }

// modeText is a mode as ls(1) writes it.
func modeText(mode fs.FileMode) string {
	text := []byte(mode.Perm().String())
	for _, kind := range []struct {
		bit    fs.FileMode
		letter byte
	}{{fs.ModeDir, 'd'}, {fs.ModeSymlink, 'l'}, {fs.ModeNamedPipe, 'p'}, {fs.ModeSocket, 's'}, {fs.ModeDevice, 'b'}, {fs.ModeCharDevice, 'c'}} {
		if mode&kind.bit != 0 {
			text[0] = kind.letter
		}
	}
	for _, special := range []struct {
		bit    fs.FileMode
		at     int
		letter byte // in the place of x; large where there is none
	}{{fs.ModeSetuid, 3, 's'}, {fs.ModeSetgid, 6, 's'}, {fs.ModeSticky, 9, 't'}} {
		if mode&special.bit == 0 {
			continue
		}
		if text[special.at] == '-' {
			special.letter -= 'a' - 'A'
		}
		text[special.at] = special.letter
	}
	return string(text)
}

func newVolumeFiles(a *app) *cobra.Command {
	format, all := "", false
	cmd := &cobra.Command{
		Use: "files [OPTIONS] VOLUME [PATH]", Short: "List the files of a volume", Args: rangeArgs(1, 2),
		RunE: a.withEngine(func(e *engine.Engine, args []string) error {
			files, err := e.VolumeFiles(args[0], strings.Join(args[1:], ""), all)
			if err != nil {
				return err
			}
			var rows []any
			for _, f := range files {
				r := fileRow{modeText(f.Mode), fmt.Sprintf("%d:%d", f.UID, f.GID), fmt.Sprint(f.Size), f.MTime.UTC().Format(time.RFC3339), f.Path, f.Link}
				if f.Link != "" && format == "" {
					r.Path += " -> " + f.Link
				}
				rows = append(rows, r)
			}
			t := &table{columns: []column{{"MODE", "Mode"}, {"OWNER", "Owner"}, {"SIZE", "Size"}, {"MODIFIED", "Modified"}, {"PATH", "Path"}}, heads: map[string]string{"Link": "LINK"}}
			return t.print(a.out, format, rows)
		}),
	}
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template")
	cmd.Flags().BoolVarP(&all, "recursive", "R", false, "List everything below, too")
	return cmd
}
