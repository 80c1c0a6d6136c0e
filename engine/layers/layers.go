//go:build linux

// Package layers tells what images are made of: which layer has what size, who else uses it, what of it nobody sees because
// a layer above replaces or deletes it; and how two images differ.
package layers

import (
	"cmp"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
)

// Image is an image with its layers, the lowest first.
type Image struct {
	ID     string `json:"Id"`
	Names  []string
	Size   int64 // bytes of all layers' files
	Wasted int64 // bytes of them that are not seen in the image
	Layers []Layer
	Hidden []Hidden // what is not seen, the largest first; at most mostHidden
}

// Layer is one layer of an image.
type Layer struct {
	DiffID     string // of the layer's archive
	CreatedBy  string
	Size       int64
	Wasted     int64
	Images     []string // others that have it, too
	Containers []string // that stand on it
}

// Hidden is a file that a layer above replaces or deletes.
type Hidden struct {
	Path    string
	Size    int64
	Layer   int  // index of the layer that has it
	By      int  // of the layer that hides it
	Deleted bool // it is not replaced
}

const mostHidden = 20

// Trees describes images, all of them when none is named.
func Trees(e *engine.Engine, names []string) ([]*Image, error) {
	store := e.ImageStore()
	lock, err := store.Writing()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	all, err := store.List()
	if err != nil {
		return nil, err
	}
	chosen := all
	if len(names) > 0 {
		chosen = nil
	}
	for _, name := range names {
		img, err := store.Resolve(name)
		if err == nil {
			err = store.WithNames(img)
		}
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, img)
	}
	users, err := containersOf(e)
	if err != nil {
		return nil, err
	}
	out := []*Image{}
	for _, img := range chosen {
		t, err := describe(store, img)
		if err != nil {
			return nil, err
		}
		for i := range t.Layers {
			l := &t.Layers[i]
			l.Containers = users[l.DiffID]
			for _, other := range all {
				has := func(o image.Layer) bool { return string(o.DiffID) == l.DiffID }
				if other.ID != img.ID && slices.ContainsFunc(other.Layers, has) {
					l.Images = append(l.Images, nameOf(other))
				}
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// nameOf is what people call an image.
func nameOf(img *image.Image) string {
	for _, name := range append(img.Names, img.Digests...) {
		if r, err := reference.Parse(name); err == nil {
			return r.Familiar()
		}
	}
	return img.ID
}

// containersOf finds the containers that stand on layers.
func containersOf(e *engine.Engine) (map[string][]string, error) {
	list, err := e.List(engine.ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, s := range list {
		c, err := e.Lookup(s.ID)
		if err != nil {
			continue // it was removed meanwhile
		}
		for _, tree := range c.Lowers {
			id := "sha256:" + filepath.Base(filepath.Dir(tree))
			out[id] = append(out[id], c.Name)
		}
	}
	return out, nil
}

// describe goes through an image's layers, from the top.
func describe(store *image.Store, img *image.Image) (*Image, error) {
	lowers, err := store.Lowers(img)
	if err != nil {
		return nil, err
	}
	t := &Image{ID: img.ID, Names: []string{}, Size: img.Size, Layers: make([]Layer, len(img.Layers)), Hidden: []Hidden{}}
	for _, name := range img.Names {
		if r, err := reference.Parse(name); err == nil {
			t.Names = append(t.Names, r.Familiar())
		}
	}
	next := 0
	for _, h := range img.Config.History {
		if !h.EmptyLayer && next < len(t.Layers) {
			t.Layers[next].CreatedBy = h.CreatedBy
			next++
		}
	}
	w := &walker{above: map[string]cover{}}
	for i := len(img.Layers) - 1; i >= 0; i-- {
		t.Layers[i].DiffID, t.Layers[i].Size = string(img.Layers[i].DiffID), img.Layers[i].Size
		hidden, err := w.layer(i, lowers[len(lowers)-1-i])
		if err != nil {
			return nil, errs.Wrap("look into layer "+t.Layers[i].DiffID, err)
		}
		for _, h := range hidden {
			t.Layers[i].Wasted += h.Size
		}
		t.Wasted += t.Layers[i].Wasted
		t.Hidden = append(t.Hidden, hidden...)
	}
	slices.SortFunc(t.Hidden, func(a, b Hidden) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), cmp.Compare(a.Path, b.Path), cmp.Compare(b.Layer, a.Layer))
	})
	t.Hidden = t.Hidden[:min(len(t.Hidden), mostHidden)]
	return t, nil
}

// cover is what a layer does to a path of the layers below it.
type cover struct {
	by      int
	deletes bool // a whiteout, or an opaque folder
	folder  bool // it hides files alone: a folder below is merged, but its content hidden if this one is opaque
	opaque  bool
}

// walker goes through layers, from the top.
type walker struct {
	above map[string]cover // what the layers above the present one hide
	own   map[string]cover // what the present one hides
	index int
	files map[uint64]*inode // of the present layer
}

// inode is a file, which may have several names: it is wasted when none of them is seen.
type inode struct {
	Hidden
	names, hidden int
}

func (w *walker) layer(index int, tree string) (out []Hidden, err error) {
	w.index, w.own, w.files = index, map[string]cover{}, map[uint64]*inode{}
	root, err := os.Open(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := w.folder(root, "/", nil); err != nil {
		return nil, err
	}
	for at, c := range w.own {
		if have, ok := w.above[at]; !ok || have.folder && !have.opaque && (!c.folder || c.opaque) {
			w.above[at] = c
		}
	}
	for _, f := range w.files {
		if f.hidden == f.names {
			out = append(out, f.Hidden)
		}
	}
	return out, nil
}

// folder goes through a folder that is open. hider is what hides all of it, nil if nothing does.
func (w *walker) folder(dir *os.File, at string, hider *cover) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	opaque := layer.IsOpaque(dir)
	w.own[at] = cover{by: w.index, deletes: opaque, folder: true, opaque: opaque}
	if c, ok := w.above[at]; ok && hider == nil && c.opaque {
		hider = &c
	}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		place, over := path.Join(at, name), hider
		folder := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if c, ok := w.above[place]; ok && !(folder && c.folder) {
			over = &c
		}
		switch {
		case folder:
			if err := w.below(dir, name, place, over); err != nil {
				return err
			}
		case layer.IsWhiteout(st.Mode, st.Rdev):
			w.own[place] = cover{by: w.index, deletes: true}
		default:
			w.own[place] = cover{by: w.index}
			w.file(place, &st, over)
		}
	}
	return nil
}

func (w *walker) below(dir *os.File, name, place string, over *cover) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return w.folder(f, place, over)
}

func (w *walker) file(place string, st *unix.Stat_t, over *cover) {
	f := w.files[st.Ino]
	if f == nil {
		f = &inode{Hidden: Hidden{Path: place, Size: st.Size, Layer: w.index}}
		w.files[st.Ino] = f
	}
	if f.names++; over != nil {
		f.hidden++
		f.By, f.Deleted = over.by, over.deletes
	}
}

// Change is one difference of two images.
type Change = layer.Change

// Diff lists what leads from one image to another.
func Diff(e *engine.Engine, before, after string) ([]Change, error) {
	store := e.ImageStore()
	lock, err := store.Writing()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	var roots []string
	for _, name := range []string{before, after} {
		img, err := store.Resolve(name)
		if err != nil {
			return nil, err
		}
		lowers, err := store.Lowers(img)
		if err != nil {
			return nil, err
		}
		tree, err := mount.Overlay(mount.OverlayOptions{Lowers: lowers})
		if err != nil {
			return nil, err
		}
		defer tree.Close()
		roots = append(roots, mount.HandlePath(tree.File()))
	}
	changes, err := layer.Compare(roots[0], roots[1])
	return slices.DeleteFunc(changes, func(c Change) bool { return c.Path == "/" }), err
}
