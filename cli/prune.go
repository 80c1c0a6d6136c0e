//go:build linux

package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
)

// pruneKind is one kind of objects that can be pruned.
type pruneKind struct {
	what, warning string // the heading of what was deleted; Docker's line about what will be
	all           string // the warning with --all; "": there is no such flag
	prune         func(*engine.Engine, engine.PruneOptions) (*engine.Pruned, error)
	filters       []string // of system prune's that it takes
	sizeless      bool     // nothing is said of space
}

var (
	pruneContainers = pruneKind{what: "Containers", warning: "all stopped containers", prune: (*engine.Engine).PruneContainers, filters: []string{"label", "label!", "until"}}
	pruneNetworks   = pruneKind{what: "Networks", warning: "all networks not used by at least one container", prune: (*engine.Engine).PruneNetworks,
		filters: []string{"label", "label!", "until"}, sizeless: true}
	pruneVolumes = pruneKind{what: "Volumes", warning: "anonymous local volumes not used by at least one container", all: "all local volumes not used by at least one container",
		prune: (*engine.Engine).PruneVolumes, filters: []string{"label", "label!"}}
	pruneImages = pruneKind{what: "Images", warning: "all dangling images", all: "all images without at least one container associated to them",
		prune: (*engine.Engine).PruneImages, filters: []string{"label", "label!", "until"}}
)

// pruneFlags are those of every prune.
type pruneFlags struct {
	force, all, dry bool
	filters         listFlag
}

func (f *pruneFlags) register(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.force, "force", "f", false, "Do not prompt for confirmation")
	cmd.Flags().BoolVar(&f.dry, "dry-run", false, "Only list what would be removed, and how much")
	cmd.Flags().Var(&f.filters, "filter", "Provide filter values (e.g. \"label=<key>=<value>\", \"until=<timestamp>\")")
}

func newContainerPrune(a *app) *cobra.Command { return a.pruneCommand(pruneContainers) }
func newNetworkPrune(a *app) *cobra.Command   { return a.pruneCommand(pruneNetworks) }
func newVolumePrune(a *app) *cobra.Command    { return a.pruneCommand(pruneVolumes) }
func newImagePrune(a *app) *cobra.Command     { return a.pruneCommand(pruneImages) }

// pruneCommand makes the prune of one kind.
func (a *app) pruneCommand(kind pruneKind) *cobra.Command {
	f := &pruneFlags{}
	short := "Remove unused " + strings.ToLower(kind.what)
	if kind.what == "Containers" {
		short = "Remove all stopped containers"
	}
	cmd := &cobra.Command{
		Use: "prune [OPTIONS]", Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.all {
				kind.warning = kind.all
			}
			return a.prune(f, "WARNING! This will remove "+kind.warning+".", []pruneKind{kind})
		},
	}
	f.register(cmd)
	if kind.all != "" {
		cmd.Flags().BoolVarP(&f.all, "all", "a", false, "Remove all unused "+strings.ToLower(kind.what))
	}
	return cmd
}

func newSystemPrune(a *app) *cobra.Command {
	f, volumes := &pruneFlags{}, false
	cmd := &cobra.Command{
		Use: "prune [OPTIONS]", Short: "Remove unused data", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			kinds := []pruneKind{pruneContainers, pruneNetworks}
			if volumes {
				kinds = append(kinds, pruneVolumes)
			}
			kinds = append(kinds, pruneImages)
			warning := "WARNING! This will remove:"
			for _, k := range kinds {
				if f.all && k.what == "Images" {
					k.warning = k.all
				}
				warning += "\n  - " + k.warning
			}
			return a.prune(f, warning+"\n", kinds)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "Remove all unused images not just dangling ones")
	cmd.Flags().BoolVar(&volumes, "volumes", false, "Prune anonymous volumes")
	return cmd
}

// prune shows what would go, asks, and removes it.
func (a *app) prune(f *pruneFlags, warning string, kinds []pruneKind) error {
	filters, err := parseFilters(f.filters)
	if err != nil {
		return err
	}
	e, err := a.open()
	if err != nil {
		return err
	}
	if f.dry || !f.force {
		plan, err := pruneAll(e, f, filters, kinds, true)
		if err != nil {
			return err
		}
		text := planText(kinds, plan)
		if f.dry {
			fmt.Fprint(a.out, text)
			return nil
		}
		if !a.confirm(strings.TrimRight(warning+"\n"+text, "\n")) {
			return errors.New("canceled")
		}
	}
	done, err := pruneAll(e, f, filters, kinds, false)
	var freed int64
	sizeless := true
	for i, p := range done {
		if len(p.Items) > 0 {
			fmt.Fprintf(a.out, "Deleted %s:\n", kinds[i].what)
			for _, item := range p.Items {
				fmt.Fprintln(a.out, item.ID)
			}
			fmt.Fprintln(a.out)
		}
		freed += p.Freed
		sizeless = sizeless && kinds[i].sizeless
	}
	if err == nil && !sizeless {
		if keep := e.TrashKeeps(); keep > 0 {
			fmt.Fprintf(a.out, "Moved to the trash: %s, for %s (berth undo, berth trash empty)\n", humanSize(freed), keep)
		} else {
			fmt.Fprintf(a.out, "Total reclaimed space: %s\n", humanSize(freed))
		}
	}
	return err
}

// pruneAll goes through the kinds in their order: what containers held is free for the others. It returns what was done
// before something failed, too.
func pruneAll(e *engine.Engine, f *pruneFlags, filters engine.Filters, kinds []pruneKind, dry bool) (out []*engine.Pruned, err error) {
	var gone []string
	for i, k := range kinds {
		o := engine.PruneOptions{Filters: engine.Filters{}, Dry: dry, Without: gone}
		for key, values := range filters {
			o.Filters[key] = values
		}
		if i > 0 { // not every kind knows all of system prune's filters; the first one does, and refuses others
			o.Filters = engine.Filters{}
			for _, key := range k.filters {
				if values, ok := filters[key]; ok {
					o.Filters[key] = values
				}
			}
		}
		if f.all && (len(kinds) == 1 || k.what == "Images") {
			o.Filters["all"] = []string{"true"}
		}
		p, err := k.prune(e, o)
		if p != nil {
			out = append(out, p)
		}
		if err != nil {
			return out, err
		}
		if k.what == "Containers" {
			for _, item := range p.Items {
				gone = append(gone, item.ID)
			}
		}
	}
	return out, nil
}

// planText lists what would go.
func planText(kinds []pruneKind, plan []*engine.Pruned) string {
	var b strings.Builder
	var freed int64
	count := 0
	for i, p := range plan {
		for j, item := range p.Items {
			if j == 0 {
				fmt.Fprintf(&b, "%s:\n", kinds[i].what)
			}
			name := item.Name
			if strings.HasPrefix(name, "sha256:") {
				name = shortID(name)
			}
			fmt.Fprintf(&b, "  %-40s %9s\n", name, humanSize(item.Size))
		}
		count += len(p.Items)
		freed += p.Freed
	}
	if count == 0 {
		return "There is nothing to remove.\n"
	}
	fmt.Fprintf(&b, "In all %d, at most %s\n", count, humanSize(freed))
	return b.String()
}
