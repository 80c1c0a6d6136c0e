//go:build linux

package engine

import (
	"path/filepath"
	"slices"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/engine/match"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/network"
)

// PruneOptions say what goes. Every kind of object has some of Docker's filters: label, label!, until, and all=true.
type PruneOptions struct {
	Filters Filters
	Dry     bool     // only say what would go
	Without []string // containers that are to be taken as gone already, by id
}

// Pruned is what went, or would go.
type Pruned struct {
	Items []PrunedItem
	Freed int64 // bytes; of images at most so many, because they share layers
}

// PrunedItem is one object, and for images a name or an id that goes with it.
type PrunedItem struct {
	ID   string // what Docker prints
	Name string // for people; may be the same
	Size int64  // bytes of its own
}

// pruning is what the kinds have in common.
type pruning struct {
	PruneOptions
	until time.Time
	out   Pruned
}

func newPruning(o PruneOptions, known ...string) (*pruning, error) {
	if err := checkFilters(o.Filters, known...); err != nil {
		return nil, err
	}
	until, err := untilFilter(o.Filters)
	return &pruning{PruneOptions: o, until: until}, err
}

// wants reports whether an object with these labels, which was made then, passes the filters.
func (p *pruning) wants(labels map[string]string, created time.Time) bool {
	f := p.Filters
	return (p.until.IsZero() || !created.After(p.until)) && match.Labels(labels, f["label"]) && (len(f["label!"]) == 0 || !match.Labels(labels, f["label!"]))
}

func (p *pruning) all() bool {
	return slices.Contains(p.Filters["all"], "true") || slices.Contains(p.Filters["all"], "1")
}

// take removes an object, unless it is only asked what would go. One that is in use meanwhile stays.
func (p *pruning) take(item PrunedItem, remove func() error) error {
	if !p.Dry {
		if err := remove(); err != nil {
			if errs.Is(err, errs.Conflict) || errs.Is(err, errs.NotFound) {
				return nil
			}
			return err
		}
	}
	p.out.Items = append(p.out.Items, item)
	p.out.Freed += item.Size
	return nil
}

// PruneContainers removes containers that do not run.
func (e *Engine) PruneContainers(o PruneOptions) (*Pruned, error) {
	p, err := newPruning(o, "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	all, err := e.all()
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if s := c.state().Status; s != docker.StateExited && s != docker.StateCreated || !p.wants(c.Labels, c.Created) {
			continue
		}
		size, _ := c.sizes()
		size += layer.Size(filepath.Join(c.dataDir(), "snapshots"))
		if err := p.take(PrunedItem{c.ID, c.Name, size}, func() error { return c.Remove(RemoveOptions{}) }); err != nil {
			return &p.out, err
		}
	}
	return &p.out, nil
}

// PruneNetworks removes networks that no container is in or wants to be in.
func (e *Engine) PruneNetworks(o PruneOptions) (*Pruned, error) {
	p, err := newPruning(o, "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	all, err := e.networks.List()
	if err != nil {
		return nil, err
	}
	containers, err := e.all()
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		wanted := slices.ContainsFunc(containers, func(c *Container) bool {
			return !slices.Contains(p.Without, c.ID) && (c.inNetwork(n.Name) || c.inNetwork(n.ID))
		})
		if n.Name == network.DefaultName || wanted || !p.wants(n.Labels, n.Created) {
			continue
		}
		if err := p.take(PrunedItem{n.Name, n.Name, 0}, func() error { return e.RemoveNetwork(n.Name) }); err != nil {
			return &p.out, err
		}
	}
	return &p.out, nil
}

// PruneVolumes removes volumes that no container has: anonymous ones, or with the filter all=true every one.
func (e *Engine) PruneVolumes(o PruneOptions) (*Pruned, error) {
	p, err := newPruning(o, "all", "label", "label!")
	if err != nil {
		return nil, err
	}
	unused, err := e.volumes.Unused(p.all(), func(id string) bool { return e.exists(id) && !slices.Contains(p.Without, id) })
	if err != nil {
		return nil, err
	}
	for _, v := range unused {
		if !p.wants(v.Labels, time.Time{}) {
			continue
		}
		if err := p.take(PrunedItem{v.Name, v.Name, layer.Size(v.Mountpoint)}, func() error { return e.RemoveVolume(v.Name) }); err != nil {
			return &p.out, err
		}
	}
	return &p.out, nil
}

// PruneImages removes images without a name, or with the filter all=true those that no container has, and everything
// that nothing refers to any more.
func (e *Engine) PruneImages(o PruneOptions) (*Pruned, error) {
	p, err := newPruning(o, "all", "dangling", "label", "label!", "until")
	if err != nil {
		return nil, err
	}
	all := p.all() || slices.Contains(p.Filters["dangling"], "false")
	list, err := e.images.List()
	if err != nil {
		return nil, err
	}
	for _, img := range list {
		used := slices.ContainsFunc(e.ImageUsers(img.ID), func(id string) bool { return !slices.Contains(p.Without, id) })
		if used || e.mountedAt(img.ID) != "" || !all && len(img.Names) > 0 || !p.wants(img.Config.Config.Labels, img.Created) {
			continue
		}
		if err := e.pruneImage(p, img); err != nil {
			return &p.out, err
		}
	}
	if p.Dry {
		return &p.out, nil
	}
	_, more, err := e.images.Collect(e.treesInUse, true)
	p.out.Freed += more
	return &p.out, err
}

// pruneImage takes one image, which has a line for each of its names and ids.
func (e *Engine) pruneImage(p *pruning, img *image.Image) error {
	names := img.Names
	removed := &image.Removed{Untagged: names, Deleted: []string{img.ID}}
	name := img.ID
	for i, full := range names {
		if r, err := reference.Parse(full); err == nil {
			full = r.Familiar()
		}
		if i == 0 {
			name = full
		} else {
			name += ", " + full
		}
	}
	item := PrunedItem{ID: "deleted: " + img.ID, Name: name, Size: img.Size}
	had := len(p.out.Items)
	err := p.take(item, func() (err error) {
		removed, err = e.RemoveImage(img.ID, true)
		return err
	})
	if err != nil || len(p.out.Items) == had || p.Dry {
		return err
	}
	p.out.Items = p.out.Items[:had]
	for _, name := range removed.Untagged {
		p.out.Items = append(p.out.Items, PrunedItem{ID: "untagged: " + name, Name: name})
	}
	for _, id := range removed.Deleted {
		p.out.Items = append(p.out.Items, PrunedItem{ID: "deleted: " + id, Name: id})
	}
	return nil
}

// untilFilter reads until=TIME: a time, or how long ago.
func untilFilter(f Filters) (time.Time, error) {
	var out time.Time
	for _, v := range f["until"] {
		if d, err := time.ParseDuration(v); err == nil {
			out = time.Now().Add(-d)
			continue
		}
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return out, errs.Text(errs.Invalid, "invalid filter 'until="+v+"'")
		}
		out = t
	}
	return out, nil
}
