//go:build linux

package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
)

// RemoveOptions of Store.Remove.
type RemoveOptions struct {
	Force  bool                     // also an image with several names, or one that a stopped container has
	Users  func(id string) []string // containers that have an image
	Active func(id string) bool     // one of them runs
	Trees  func() ([]string, error) // layers' trees that containers have, whether their image is there or not

	Mounted func(id string) string        // where an image is mounted on the host; "" is nowhere
	Discard func(img *Image) (dir string) // makes a folder that keeps the record of an image; "": it is not kept
}

// Removed is what a removal took away.
type Removed struct {
	Untagged []string // familiar names
	Deleted  []string // ids
}

// Writing marks that blobs and trees are being added which nothing refers to yet. Any number may write at once; a
// collection of garbage waits for them.
func (s *Store) Writing() (*flock.Lock, error) {
	if err := os.MkdirAll(s.root, 0o711); err != nil {
		return nil, errs.Wrap("write image", err)
	}
	return flock.Shared(filepath.Join(s.root, "images.lock"))
}

// Remove takes a name away, and the image with its last name.
func (s *Store) Remove(name string, o RemoveOptions) (*Removed, error) {
	img, err := s.Resolve(name)
	if err != nil {
		return nil, err
	}
	if err := s.WithNames(img); err != nil {
		return nil, err
	}
	out := &Removed{}
	names := append(slices.Clone(img.Names), img.Digests...)
	byName := s.named(name, img)
	if byName != "" && len(img.Names) > 1 {
		return out, s.untag([]string{byName}, out)
	}
	if byName == "" && len(img.Names) > 1 && !o.Force {
		return nil, errs.Text(errs.Conflict, fmt.Sprintf("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", short(img.ID)))
	}
	if path := o.Mounted(img.ID); path != "" {
		return nil, errs.Text(errs.Conflict, fmt.Sprintf("conflict: unable to delete %s (cannot be forced) - image is mounted on %s", name, path)).WithHint("berth image unmount " + path)
	}
	if users := o.Users(img.ID); len(users) > 0 {
		how := "must be forced"
		if o.Active(img.ID) {
			how = "cannot be forced"
		}
		if !o.Force || o.Active(img.ID) {
			return nil, errs.Text(errs.Conflict, fmt.Sprintf("conflict: unable to delete %s (%s) - container %s is using its referenced image %s", name, how, users[0][:12], short(img.ID)))
		}
	}
	kept := o.Discard(img)
	if err := s.untag(names, out); err != nil {
		return out, err
	}
	if kept == "" {
		err = os.Remove(s.recordPath(img.ID))
	} else {
		err = os.Rename(s.recordPath(img.ID), filepath.Join(kept, keptRecord))
	}
	if err != nil {
		return out, errs.Wrap("remove image", err)
	}
	out.Deleted = append(out.Deleted, img.ID)
	_, _, err = s.Collect(o.Trees, false)
	return out, err
}

func short(id string) string { return strings.TrimPrefix(id, "sha256:")[:12] }

// named is the whole name by which a user named an image; "" when it was by its id.
func (s *Store) named(name string, img *Image) string {
	r, err := reference.Parse(name)
	if err != nil {
		return ""
	}
	for _, c := range candidates(name, r) {
		if id, err := os.Readlink(s.refPath(c)); err == nil && id == img.ID {
			return c.String()
		}
	}
	return ""
}

func (s *Store) untag(names []string, out *Removed) error {
	for _, name := range names {
		r, err := reference.Parse(name)
		if err != nil {
			return err
		}
		if err := s.dropName(s.refPath(r)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errs.Wrap("untag "+name, err)
		}
		out.Untagged = append(out.Untagged, r.Familiar())
	}
	return nil
}

// dropName removes the link that a name is, and the folders that are empty then.
func (s *Store) dropName(link string) error {
	err := os.Remove(link)
	for dir := filepath.Dir(link); err == nil && dir != filepath.Join(s.root, "refs") && os.Remove(dir) == nil; dir = filepath.Dir(dir) {
		continue
	}
	return err
}

// keptRecord is the record of an image that was removed and can come back, in a folder of the trash. Its blobs and layers
// stay as long as it is there.
const keptRecord = "image.json"

// Kept lists images that were removed and can come back.
func (s *Store) Kept() (out []*Image, err error) {
	files, _ := filepath.Glob(filepath.Join(s.root, "trash", "*", keptRecord))
	for _, file := range files {
		img := new(Image)
		err := atomicfile.ReadJSON(file, img)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errs.New(errs.Internal, "", err).WithHint("berth trash empty")
		}
		out = append(out, img)
	}
	return out, nil
}

// Restore brings back an image whose record was kept, with those of its names that mean nothing else by now.
func (s *Store) Restore(file string, names []string) error {
	lock, err := s.Writing()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	img := new(Image)
	if err = atomicfile.ReadJSON(file, img); err == nil {
		err = os.Rename(file, s.recordPath(img.ID))
	}
	for _, name := range names {
		if r, perr := reference.Parse(name); err == nil && perr == nil {
			if _, missing := os.Readlink(s.refPath(r)); missing != nil {
				err = s.setRef(r, img.ID)
			}
		}
	}
	return errs.Wrap("restore image", err)
}
