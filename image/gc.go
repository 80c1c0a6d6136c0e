//go:build linux

package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
)

// gone begins the names of folders whose content is being deleted.
const gone = ".gone-"

// Collect removes blobs and layers' trees that no image refers to, but the trees that keep names, and what killed
// processes left. It returns how many it removed and how many bytes that freed. While images are being added nobody can
// know what nothing will refer to: it waits for that, or does nothing. It does nothing either, and says why, when it
// cannot tell what an image, or keep, refers to.
func (s *Store) Collect(keep func() ([]string, error), wait bool) (count int, freed int64, err error) {
	path := filepath.Join(s.root, "images.lock")
	take := flock.TryExclusive
	if wait {
		take = flock.Exclusive
	}
	lock, err := take(path)
	if lock == nil || err != nil {
		return 0, 0, err
	}
	defer lock.Unlock()
	live, err := s.findLive(keep)
	if err != nil {
		return 0, 0, errs.Wrap("look for what is unused", err)
	}
	all, err := s.blobs.List()
	if err != nil {
		return 0, 0, err
	}
	for _, d := range all {
		if size, ok := s.blobs.Has(d); ok && !live.blobs[d] {
			if err := s.blobs.Remove(d); err != nil {
				return count, freed, err
			}
			count, freed = count+1, freed+size
		}
	}
	if err := s.dropNames(); err != nil {
		return count, freed, err
	}
	for _, pattern := range []string{"ingest/*", loading + "*"} {
		left, _ := filepath.Glob(filepath.Join(s.root, pattern))
		for _, path := range left {
			_ = os.RemoveAll(path)
		}
	}
	trash, n, err := s.hideTrees(live.trees)
	lock.Unlock() // what has no name any more can be deleted beside others
	for _, dir := range trash {
		freed += layer.Size(dir)
		if rerr := os.RemoveAll(dir); rerr != nil && err == nil {
			err = errs.Wrap("remove layer", rerr)
		}
	}
	return count + n, freed, err
}

// live is what something refers to.
type live struct {
	blobs map[digest.Digest]bool
	trees map[string]bool // names of layers' folders
}

// findLive goes through all images. One that cannot be read is an error: its blobs may be all that can mend it.
func (s *Store) findLive(keep func() ([]string, error)) (*live, error) {
	l := &live{map[digest.Digest]bool{}, map[string]bool{}}
	trees, err := keep()
	if err != nil {
		return nil, err
	}
	for _, tree := range trees {
		l.trees[filepath.Base(filepath.Dir(tree))] = true
	}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var images []*Image
	for _, id := range ids {
		img, err := s.load(id)
		if errs.Is(err, errs.NotFound) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return nil, errs.New(errs.KindOf(err), "", err).WithHint("berth doctor --store --repair")
		}
		images = append(images, img)
	}
	kept, err := s.Kept() // after the others: that is the way they go
	if err != nil {
		return nil, err
	}
	for _, img := range append(images, kept...) {
		l.blobs[digest.Digest(img.ID)], l.blobs[digest.Digest(img.Manifest)] = true, true
		for _, layer := range img.Layers {
			l.blobs[layer.Blob], l.trees[hexOf(layer.DiffID)] = true, true
		}
	}
	return l, nil
}

// hideTrees takes their names from all trees but those to keep: a tree is there as a whole or not at all.
func (s *Store) hideTrees(keep map[string]bool) (trash []string, count int, err error) {
	layers := filepath.Join(s.root, "layers")
	entries, err := os.ReadDir(layers)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, errs.Wrap("list layers", err)
	}
	into := ""
	for _, e := range entries {
		dir := filepath.Join(layers, e.Name())
		switch {
		case keep[e.Name()] || e.Name() == "empty":
			continue
		case strings.HasPrefix(e.Name(), gone): // of somebody who was killed
			trash = append(trash, dir)
			continue
		case into == "":
			if into, err = os.MkdirTemp(layers, gone); err != nil {
				return trash, count, errs.Wrap("remove layer", err)
			}
			trash = append(trash, into)
		}
		if err := os.Rename(dir, filepath.Join(into, e.Name())); err != nil {
			return trash, count, errs.Wrap("remove layer", err)
		}
		count++
	}
	return trash, count, nil
}

// dropNames removes names that were not finished, and those of images that are not there.
func (s *Store) dropNames() error {
	base := filepath.Join(s.root, "refs")
	err := filepath.WalkDir(base, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink == 0 {
			return ignoreMissing(err)
		}
		id, err := os.Readlink(file)
		if err != nil {
			return ignoreMissing(err)
		}
		if _, err := os.Lstat(s.recordPath(id)); errors.Is(err, fs.ErrNotExist) || strings.HasPrefix(entry.Name(), unfinished) {
			return ignoreMissing(s.dropName(file))
		}
		return nil
	})
	return errs.Wrap("remove names of images", err)
}
