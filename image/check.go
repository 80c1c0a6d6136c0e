//go:build linux

package image

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
)

// Flaw is something of the store that is not as it must be.
type Flaw struct {
	Kind   string       // image, name, blob, layer, folder
	What   string       // its name, id or digest
	Why    string       // "the content has another digest"
	Advice string       `json:",omitempty"` // what the user can do, where mending does not bring all back
	Mend   func() error `json:"-"`          // makes the best of it; nil: there is nothing to be done here
}

// checker goes through a store.
type checker struct {
	s     *Store
	busy  func(tree string) string
	flaws []Flaw

	layers map[digest.Digest]*Layer          // all that images have, or that lie in layers/
	users  map[digest.Digest]map[string]bool // blob → names of the images that have it
	bad    map[digest.Digest]bool            // blobs that are missing or damaged
}

// Check looks at everything in the store: each blob is read, each layer unpacked once more and compared with its tree.
// busy says which container runs on a tree, "" is none. Nothing is changed; what mends a flaw is to be called one after
// the other, in their order, while [Store.Writing] is held, as during the check.
func (s *Store) Check(busy func(tree string) string) ([]Flaw, error) {
	c := &checker{s: s, busy: busy, layers: map[digest.Digest]*Layer{}, users: map[digest.Digest]map[string]bool{}, bad: map[digest.Digest]bool{}}
	for _, look := range []func() error{c.blobs, c.records, c.names, c.missing, c.trees} {
		if err := look(); err != nil {
			return nil, errs.Wrap("check store", err)
		}
	}
	return c.flaws, nil
}

// Unfinished lists folders that killed processes left, which is known only when nobody writes: otherwise there are none.
// It is to be called before Check, without a lock.
func (s *Store) Unfinished() (out []Flaw, err error) {
	lock, err := flock.TryExclusive(filepath.Join(s.root, "images.lock"))
	if lock == nil || err != nil {
		return nil, err
	}
	defer lock.Unlock()
	for _, pattern := range []string{"layers/" + unfinished + "*", "layers/" + gone + "*", loading + "*"} {
		left, _ := filepath.Glob(filepath.Join(s.root, pattern))
		for _, path := range left {
			out = append(out, Flaw{Kind: "folder", What: path, Why: "it was not finished", Mend: func() error { return os.RemoveAll(path) }})
		}
	}
	return out, nil
}

func (c *checker) add(f Flaw) { c.flaws = append(c.flaws, f) }

// blobs reads them all.
func (c *checker) blobs() error {
	all, err := c.s.blobs.List()
	if err != nil {
		return err
	}
	for _, d := range all {
		f, err := c.s.blobs.Open(d)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		sum := sha256.New()
		_, err = io.Copy(sum, f)
		f.Close()
		if err != nil {
			return errs.Wrap("read blob "+string(d), err)
		}
		if got := digest.NewDigest(digest.SHA256, sum); got != d {
			c.bad[d] = true
		}
	}
	return nil
}

// records reads what is written down of images, and notes what they need.
func (c *checker) records() error {
	ids, err := c.s.ids()
	if err != nil {
		return err
	}
	refs, err := c.s.references()
	if err != nil {
		return err
	}
	for _, id := range ids {
		img, err := c.s.load(id)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		named := &Image{ID: id}
		named.addNames(refs)
		if err != nil || img.ID != id || img.Manifest == "" {
			c.record(id, named)
			continue
		}
		c.need(digest.Digest(id), named)
		c.need(digest.Digest(img.Manifest), named)
		for i := range img.Layers {
			c.need(img.Layers[i].Blob, named)
			c.layers[img.Layers[i].DiffID] = &img.Layers[i]
		}
	}
	entries, err := os.ReadDir(filepath.Join(c.s.root, "layers"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries { // those that only containers stand on
		d := digest.Digest("sha256:" + e.Name())
		if l, ok := c.s.LayerOf(d); ok && c.layers[d] == nil {
			c.layers[d] = l
		}
	}
	return nil
}

func (c *checker) need(d digest.Digest, img *Image) {
	if c.users[d] == nil {
		c.users[d] = map[string]bool{}
	}
	name := img.ID
	if all := append(img.Names, img.Digests...); len(all) > 0 {
		name = all[0]
	}
	c.users[d][name] = true
}

// record finds what an image was whose record cannot be read.
func (c *checker) record(id string, named *Image) {
	f := Flaw{Kind: "image", What: id, Why: "what is written down of it cannot be read"}
	img, err := c.rebuild(id)
	if err == nil {
		f.Mend = func() error {
			trees, err := c.s.Lowers(img)
			for i := range img.Layers {
				if err == nil {
					img.Layers[i].Size = layer.Size(trees[len(trees)-1-i])
				}
			}
			if err != nil {
				return err
			}
			return c.s.finish(img)
		}
		for i := range img.Layers {
			c.layers[img.Layers[i].DiffID] = &img.Layers[i]
		}
	} else {
		f.Why += ", nor be found out: " + err.Error()
		f.Advice = again(append(named.Names, named.Digests...))
		f.Mend = func() error {
			for _, name := range append(named.Names, named.Digests...) {
				if err := c.s.untag([]string{name}, &Removed{}); err != nil {
					return err
				}
			}
			return os.Remove(c.s.recordPath(id))
		}
	}
	c.add(f)
}

// rebuild makes an image's record of its configuration and manifest, which are blobs.
func (c *checker) rebuild(id string) (*Image, error) {
	config, err := c.s.blobs.Read(digest.Digest(id), largestJSON)
	if err != nil {
		return nil, err
	}
	img := &Image{ID: id, Added: time.Now().UTC()}
	if err := json.Unmarshal(config, &img.Config); err != nil {
		return nil, err
	}
	all, err := c.s.blobs.List()
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if size, ok := c.s.blobs.Has(d); !ok || size > largestJSON {
			continue
		}
		var m v1.Manifest
		b, err := c.s.blobs.Read(d, largestJSON)
		if err != nil || json.Unmarshal(b, &m) != nil || string(m.Config.Digest) != id || len(m.Layers) != len(img.Config.RootFS.DiffIDs) {
			continue
		}
		img.Manifest = string(d)
		for i, blob := range m.Layers {
			if !c.whole(blob.Digest) {
				return nil, fmt.Errorf("its layer %s is not there", blob.Digest)
			}
			img.Layers = append(img.Layers, Layer{DiffID: img.Config.RootFS.DiffIDs[i], Blob: blob.Digest, Type: blob.MediaType, Length: blob.Size})
		}
		return img, nil
	}
	return nil, errors.New("there is no manifest of it")
}

// again says how an image comes back that has one of these names.
func again(names []string) string {
	for _, name := range names {
		if r, err := reference.Parse(name); err == nil && r.Domain != "localhost" {
			return "berth pull " + r.Familiar() + ", or load it again"
		}
	}
	return "load, import or build it again"
}

func (c *checker) whole(d digest.Digest) bool {
	_, ok := c.s.blobs.Has(d)
	return ok && !c.bad[d]
}

// names finds those that mean nothing.
func (c *checker) names() error {
	refs, err := c.s.references()
	if err != nil {
		return err
	}
	for _, n := range refs {
		if _, err := os.Lstat(c.s.recordPath(n.id)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		link := c.s.refPath(n.ref)
		c.add(Flaw{Kind: "name", What: n.ref.Familiar(), Why: "its image is not there", Advice: again([]string{n.ref.String()}),
			Mend: func() error { return ignoreMissing(c.s.dropName(link)) }})
	}
	return nil
}

// missing tells of blobs that are damaged or not there. A damaged one is removed, so that a pull brings it again.
func (c *checker) missing() error {
	for d := range c.users {
		if _, ok := c.s.blobs.Has(d); !ok {
			c.bad[d] = true
		}
	}
	for _, d := range slices.Sorted(maps.Keys(c.bad)) {
		f := Flaw{Kind: "blob", What: string(d), Why: "its content has another digest", Mend: func() error { return c.s.blobs.Remove(d) }}
		if _, ok := c.s.blobs.Has(d); !ok {
			f.Why, f.Mend = "it is not there", nil
		}
		if names := slices.Sorted(maps.Keys(c.users[d])); len(names) > 0 {
			f.Why += "; of " + strings.Join(names, ", ")
			f.Advice = again(names) + ": until then it cannot be saved and pushed"
		}
		c.add(f)
	}
	return nil
}

// trees compares each layer's tree with what its blob gives.
func (c *checker) trees() error {
	for _, d := range slices.Sorted(maps.Keys(c.layers)) {
		if err := c.tree(c.layers[d]); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) tree(l *Layer) error {
	tree := filepath.Join(c.s.layerDir(l.DiffID), "fs")
	_, err := os.Lstat(tree)
	f := Flaw{Kind: "layer", What: string(l.DiffID)}
	if !c.whole(l.Blob) {
		if err != nil {
			f.Why, f.Advice = "its files are not there, nor is its blob whole", again(nil)
			c.add(f)
		}
		return nil
	}
	if err != nil {
		f.Why, f.Mend = "its files are not there", func() error { return c.s.unpackBlob(l) }
		c.add(f)
		return nil
	}
	why, err := c.compare(l, tree)
	if err != nil {
		return err
	}
	if _, ok := c.s.LayerOf(l.DiffID); why == "" && ok {
		return nil
	}
	f.Why, f.Mend = "what is written down of it cannot be read", func() error {
		return atomicfile.WriteJSON(filepath.Join(c.s.layerDir(l.DiffID), layerFile), l, atomicfile.Durable)
	}
	if why != "" {
		f.Why, f.Mend = why, func() error { return c.s.unpackAnew(l) }
		if user := c.busy(tree); user != "" {
			f.Mend, f.Advice = nil, "stop container "+user+", which runs on it, and repair then"
		}
	}
	c.add(f)
	return nil
}

// compare unpacks a layer beside its tree.
func (c *checker) compare(l *Layer, tree string) (why string, err error) {
	stage, err := c.s.stageBlob(l)
	if stage != "" {
		defer os.RemoveAll(stage)
	}
	if errs.Is(err, errs.NoSpace) {
		return "", err
	}
	if err != nil { // the blob is whole, so it was never this layer
		return err.Error(), nil
	}
	changes, err := layer.Compare(filepath.Join(stage, "fs"), tree)
	if err != nil || len(changes) == 0 {
		return "", err
	}
	first := changes[0]
	why = fmt.Sprintf("%d files are not as the layer has them: %s", len(changes), first.Path)
	switch first.Kind {
	case "A":
		why += " is too much"
	case "D":
		why += " is missing"
	case "C":
		why += " (" + first.What + ")"
	}
	return why, nil
}

// unpackAnew replaces a tree that no running container stands on.
func (s *Store) unpackAnew(l *Layer) error {
	stage, err := s.stageBlob(l)
	if stage != "" {
		defer os.RemoveAll(stage)
	}
	if err != nil {
		return err
	}
	trash, err := os.MkdirTemp(filepath.Join(s.root, "layers"), gone)
	if err != nil {
		return errs.Wrap("unpack layer", err)
	}
	defer os.RemoveAll(trash)
	if err := os.Rename(s.layerDir(l.DiffID), filepath.Join(trash, "damaged")); err != nil {
		return errs.Wrap("unpack layer", err)
	}
	return s.keepTree(stage, l)
}
