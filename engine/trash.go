//go:build linux

package engine

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berth-containers/berth/engine/trash"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
)

// discard makes a folder of the trash for something that is being removed; "": it is not kept. A trash that does not
// work keeps nobody from removing things.
func (e *Engine) discard(kind, name string, names []string) string {
	dir, err := trash.Begin(e.root, trash.Item{Kind: kind, Name: name, Names: names})
	if err != nil {
		return ""
	}
	return dir
}

func (e *Engine) discardImage(img *image.Image) string {
	names := append(img.Names, img.Digests...)
	name := img.ID
	if len(names) > 0 {
		if r, err := reference.Parse(names[0]); err == nil {
			name = r.Familiar()
		}
	}
	return e.discard(trash.Image, name, names)
}

// keepable reports whether the container can come back: one with a bounded write layer, or a range of ids of its own, has
// numbers that others may have by then.
func (c *Container) keepable() bool {
	size, err := c.layerSize()
	return !c.HostConfig.AutoRemove && c.HostConfig.UsernsMode != "auto" && !c.Created.IsZero() && size == 0 && err == nil
}

// discarded are the trees that containers in the trash stand on.
func (e *Engine) discarded() (out []string, err error) {
	for _, i := range trash.List(e.root) {
		if i.Kind != trash.Container {
			continue
		}
		var r record
		if err := atomicfile.ReadJSON(filepath.Join(i.Dir, trash.Data, configFile), &r); err != nil {
			return nil, errs.New(errs.Internal, "", err).WithHint("berth trash empty")
		}
		out = append(out, r.Lowers...)
	}
	return out, nil
}

// CollectImages deletes what no image, container or mount has any more.
func (e *Engine) CollectImages() error {
	_, _, err := e.images.Collect(e.treesInUse, true)
	return err
}

// TrashKeeps is for how long what is removed is kept; 0 is not at all.
func (e *Engine) TrashKeeps() time.Duration {
	keep, _ := trash.Keep(e.root)
	return keep
}

// Keeps reports whether something of a name was removed and can come back.
func (e *Engine) Keeps(name string) bool {
	return slices.ContainsFunc(trash.List(e.root), func(i trash.Item) bool { return i.Name == name })
}

// Restore brings back what was removed.
func (e *Engine) Restore(i trash.Item) (err error) {
	switch i.Kind {
	case trash.Image:
		err = e.images.Restore(filepath.Join(i.Dir, trash.Record), i.Names)
	case trash.Volume:
		err = e.volumes.Restore(i.Name, filepath.Join(i.Dir, trash.Data))
	case trash.Container:
		err = e.restoreContainer(filepath.Join(i.Dir, trash.Data))
	default:
		err = errs.New(errs.Internal, "restore "+i.Name, errors.New("it is of an unknown kind: "+i.Kind))
	}
	if err != nil {
		return err
	}
	return trash.Drop(i)
}

func (e *Engine) restoreContainer(data string) error {
	lock, err := e.images.Writing() // its layers stay meanwhile
	if err != nil {
		return err
	}
	defer lock.Unlock()
	c := &Container{e: e}
	if err := atomicfile.ReadJSON(filepath.Join(data, configFile), &c.record); err != nil {
		return errs.Wrap("restore container", err)
	}
	if err := e.takeName(c.Name, c.ID); err != nil {
		return err
	}
	if err := os.Rename(data, c.dataDir()); err != nil {
		e.dropName(c.Name, c.ID)
		return errs.Wrap("restore container "+c.Name, err)
	}
	for _, m := range c.Mounts {
		if m.Name != "" {
			_ = e.volumes.Use(m.Name, c.ID) // one that is gone is missed when the container starts
		}
	}
	c.tell("create")
	return nil
}
