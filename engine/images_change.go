//go:build linux

package engine

import (
	"io"
	"slices"
	"strings"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/internal/errs"
)

// Tag gives an image a further name.
func (e *Engine) Tag(source, target string) error {
	img, err := e.resolve(source)
	if err != nil {
		return err
	}
	if err := e.images.Tag(source, target); err != nil {
		return err
	}
	e.tellImage("tag", img.ID, target)
	return nil
}

// RemoveImage takes a name of an image away, and the image with its last name.
func (e *Engine) RemoveImage(name string, force bool) (*image.Removed, error) {
	removed, err := e.images.Remove(name, e.removeOptions(force))
	if removed != nil {
		e.tellRemoved(removed)
	}
	return removed, err
}

func (e *Engine) removeOptions(force bool) image.RemoveOptions {
	return image.RemoveOptions{Force: force, Users: e.imageUsers, Trees: e.treesInUse, Active: func(id string) bool {
		return slices.ContainsFunc(e.imageUsers(id), func(user string) bool {
			c, err := e.open(user)
			return err == nil && c.Running()
		})
	}}
}

// imageUsers are the containers that were made of an image.
func (e *Engine) imageUsers(id string) (out []string) {
	all, err := e.all()
	if err != nil {
		return nil
	}
	for _, c := range all {
		if c.ImageID == id {
			out = append(out, c.ID)
		}
	}
	return out
}

// treesInUse are the layers that containers stand on.
func (e *Engine) treesInUse() (out []string) {
	all, err := e.all()
	if err != nil {
		return nil
	}
	for _, c := range all {
		out = append(out, c.Lowers...)
	}
	return out
}

// PruneImages removes images without a name, or with the filter all=true those that no container has, and everything
// that nothing refers to any more.
func (e *Engine) PruneImages(f Filters) (removed []string, freed int64, err error) {
	if err := checkFilters(f, "all", "dangling", "label", "label!", "until"); err != nil {
		return nil, 0, err
	}
	until, err := untilFilter(f)
	if err != nil {
		return nil, 0, err
	}
	all := slices.Contains(f["all"], "true") || slices.Contains(f["dangling"], "false")
	list, err := e.images.List()
	if err != nil {
		return nil, 0, err
	}
	for _, img := range list {
		if len(e.imageUsers(img.ID)) > 0 || !all && len(img.Names) > 0 || !until.IsZero() && img.Created.After(until) || !matchLabels(img.Config.Config.Labels, f["label"]) {
			continue
		}
		r, err := e.RemoveImage(img.ID, true)
		if err != nil {
			if errs.Is(err, errs.Conflict) {
				continue
			}
			return removed, freed, err
		}
		freed += img.Size
		for _, name := range r.Untagged {
			removed = append(removed, "untagged: "+name)
		}
		for _, id := range r.Deleted {
			removed = append(removed, "deleted: "+id)
		}
	}
	_, more, err := e.images.Collect(e.treesInUse())
	return removed, freed + more, err
}

// History tells how an image was made, the newest step first.
func (e *Engine) History(name string) ([]image.History, error) {
	img, err := e.resolve(name)
	if err != nil {
		return nil, err
	}
	if err := e.images.WithNames(img); err != nil {
		return nil, err
	}
	return e.images.History(img), nil
}

// Save writes images as an archive.
func (e *Engine) Save(w io.Writer, names []string) error {
	for _, name := range names {
		if _, err := e.resolve(name); err != nil {
			return err
		}
	}
	if err := e.images.Save(w, names); err != nil {
		return err
	}
	for _, name := range names {
		e.tellImage("save", name, name)
	}
	return nil
}

// Load reads images from an archive and returns their names, or ids where they have none.
func (e *Engine) Load(r io.Reader) ([]string, error) {
	images, err := e.images.Load(r)
	var out []string
	for _, img := range images {
		e.tellImage("load", img.ID, img.ID)
		if nerr := e.images.WithNames(img); nerr != nil || len(img.Names) == 0 {
			out = append(out, "Loaded image ID: "+img.ID)
			continue
		}
		for _, name := range img.Names {
			out = append(out, "Loaded image: "+strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/library/"), "docker.io/"))
		}
	}
	return out, err
}
