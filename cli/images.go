//go:build linux

package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/cli/space"
	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
)

// imageRow is a line of `images`, with the fields that Docker's templates have.
type imageRow struct {
	ID, Repository, Tag, Digest, CreatedSince, CreatedAt, Size string
	Containers                                                 string
}

func imageTable(digests bool) *table {
	t := &table{
		columns: []column{{"REPOSITORY", "Repository"}, {"TAG", "Tag"}, {"IMAGE ID", "ID"}, {"CREATED", "CreatedSince"}, {"SIZE", "Size"}},
		heads:   map[string]string{"CreatedAt": "CREATED AT", "Digest": "DIGEST", "Containers": "CONTAINERS"},
	}
	if digests {
		t.columns = append(t.columns[:2:2], append([]column{{"DIGEST", "Digest"}}, t.columns[2:]...)...)
	}
	return t
}

func newImages(a *app) *cobra.Command {
	var quiet, noTrunc, digests bool
	var filters listFlag
	format := ""
	o := engine.ImageListOptions{}
	cmd := &cobra.Command{
		Use: "images [OPTIONS] [REPOSITORY[:TAG]]", Short: "List images",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return invalid("%q requires at most 1 argument", cmd.CommandPath())
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			if o.Filters, err = parseFilters(filters); err != nil {
				return err
			}
			if len(args) == 1 {
				o.Name = args[0]
			}
			list, err := e.Images(o)
			if err != nil {
				return err
			}
			var rows []any
			seen := map[string]bool{}
			for _, s := range list {
				r := imageRow{ID: s.ID, Repository: s.Repository, Tag: s.Tag, Digest: s.Digest, CreatedAt: s.Created.Format("2006-01-02 15:04:05 -0700 MST"), Size: humanSize(s.Size),
					CreatedSince: units.HumanDuration(time.Since(s.Created)) + " ago", Containers: "N/A"}
				if !noTrunc {
					r.ID = shortID(s.ID)
				}
				if quiet && seen[r.ID] {
					continue
				}
				seen[r.ID] = true
				rows = append(rows, r)
			}
			if quiet && format == "" {
				format = "{{.ID}}"
			}
			return imageTable(digests).print(a.out, format, rows)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.All, "all", "a", false, "Show all images (default hides intermediate images)")
	f.BoolVarP(&quiet, "quiet", "q", false, "Only show image IDs")
	f.BoolVar(&digests, "digests", false, "Show digests")
	f.BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	f.VarP(&filters, "filter", "f", "Filter output based on conditions provided")
	f.StringVar(&format, "format", "", "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'")
	return cmd
}

func newImport(a *app) *cobra.Command {
	o := engine.ImportOptions{}
	var changes listFlag
	cmd := &cobra.Command{
		Use: "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]", Short: "Import the contents from a tarball to create a filesystem image", Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 {
				return invalid("%q requires at most 2 arguments", cmd.CommandPath())
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			if len(args) == 2 {
				o.Ref = args[1]
			}
			o.Changes = changes
			in, err := a.source(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			id, err := e.Import(in, o)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, id)
			return space.Keep(e, a.err)
		},
	}
	cmd.Flags().VarP(&changes, "change", "c", "Apply Dockerfile instruction to the created image")
	cmd.Flags().StringVarP(&o.Message, "message", "m", "", "Set commit message for imported image")
	cmd.Flags().StringVar(&o.Platform, "platform", "", "Set platform of the image: linux/ARCH[/VARIANT]")
	return cmd
}

// source opens what import reads: standard input, a file, or a URL.
func (a *app) source(name string) (io.ReadCloser, error) {
	switch {
	case name == "-":
		return io.NopCloser(a.in), nil
	case strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://"):
		resp, err := http.Get(name)
		if err != nil {
			return nil, errs.New(errs.Unavailable, "download "+name, err)
		}
		if resp.StatusCode != http.StatusOK {
			resp.Body.Close()
			return nil, errs.New(errs.Unavailable, "download "+name, fmt.Errorf("the server says %s", resp.Status))
		}
		return resp.Body, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, errs.New(errs.Invalid, "", err)
	}
	return f, nil
}
