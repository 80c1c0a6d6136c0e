//go:build linux

package engine

import (
	"io"
	"slices"
	"strings"

	"github.com/berth-containers/berth/engine/imagemount"
	"github.com/berth-containers/berth/engine/mountpoint"
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
	return e.removeImage(name, e.removeOptions(force))
}

// DropImage is [Engine.RemoveImage], with force, that puts nothing into the trash.
func (e *Engine) DropImage(name string) (*image.Removed, error) {
	o := e.removeOptions(true)
	o.Discard = func(*image.Image) string { return "" }
	return e.removeImage(name, o)
}

func (e *Engine) removeImage(name string, o image.RemoveOptions) (*image.Removed, error) {
	removed, err := e.images.Remove(name, o)
	if removed != nil {
		e.tellRemoved(removed)
	}
	return removed, err
}

func (e *Engine) removeOptions(force bool) image.RemoveOptions {
	return image.RemoveOptions{Force: force, Users: e.ImageUsers, Trees: e.treesInUse, Mounted: e.mountedAt, Discard: e.discardImage, Active: func(id string) bool {
		return slices.ContainsFunc(e.ImageUsers(id), func(user string) bool {
			c, err := e.open(user)
			return err == nil && c.Running()
		})
	}}
}

// ImageUsers are the containers that were made of an image, or have it mounted.
func (e *Engine) ImageUsers(id string) (out []string) {
	all, err := e.all()
	if err != nil {
		return nil
	}
	for _, c := range all {
		mounts := func(m mountpoint.Point) bool { return m.Image == id }
		if c.ImageID == id || slices.ContainsFunc(c.Mounts, mounts) {
			out = append(out, c.ID)
		}
	}
	return out
}

// treesInUse are the layers that containers stand on, and those of mounted images. It is an error when one cannot say.
func (e *Engine) treesInUse() (out []string, err error) {
	ids, err := e.ids()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		c, err := e.open(id)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return nil, errs.New(errs.KindOf(err), "", err).WithHint("berth rm -f " + c.ShortID())
		}
		if c != nil {
			out = append(out, c.Lowers...)
		}
	}
	mounted, err := imagemount.List(e.state)
	if err != nil {
		return nil, err
	}
	for _, m := range mounted {
		out = append(out, m.Trees...)
	}
	discarded, err := e.discarded()
	return append(out, discarded...), err
}

// mountedAt is where an image is mounted, "" if it is not.
func (e *Engine) mountedAt(id string) string {
	mounted, _ := imagemount.List(e.state)
	for _, m := range mounted {
		if m.ImageID == id {
			return m.Path
		}
	}
	return ""
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
