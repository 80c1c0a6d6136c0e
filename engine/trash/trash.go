//go:build linux

// Package trash keeps what was removed for a while, if the user wants that:
//
//	trash/keep.json                       for how long
//	trash/<number>/item.json              what it was; the highest number was removed last
//	trash/<number>/data                   the folder of a container or volume
//	trash/<number>/image.json             an image's record: its layers and blobs stay where they are
//
// Things get there by a rename, so a large one costs no more than a small one. No process waits for their end: what has
// been there for too long is deleted with the next thing that is removed.
package trash

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/usage"
)

// Kinds of things.
const (
	Container = "container"
	Volume    = "volume"
	Image     = "image"
)

// What an item's folder has.
const (
	Data   = "data"
	Record = "image.json"
)

// Item is one thing that was removed.
type Item struct {
	Kind    string
	Name    string   // of an image without a name its id
	Names   []string `json:",omitempty"` // whole ones, of an image
	Removed time.Time
	Dir     string `json:"-"`
}

type settings struct{ Keep time.Duration }

func folder(root string) string { return filepath.Join(root, "trash") }

// Keep is for how long things are kept; 0 is not at all.
func Keep(root string) (time.Duration, error) {
	var s settings
	err := atomicfile.ReadJSON(filepath.Join(folder(root), "keep.json"), &s)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return s.Keep, errs.Wrap("read for how long the trash keeps", err)
}

// SetKeep changes it.
func SetKeep(root string, d time.Duration) error {
	err := os.MkdirAll(folder(root), 0o711)
	if err == nil {
		err = atomicfile.WriteJSON(filepath.Join(folder(root), "keep.json"), settings{d}, atomicfile.Durable)
	}
	return errs.Wrap("set for how long the trash keeps", err)
}

// Begin makes the folder for something that is being removed; "" when nothing is kept. What has been kept for long enough
// is deleted.
func Begin(root string, item Item) (string, error) {
	keep, err := Keep(root)
	if err != nil || keep == 0 {
		return "", err
	}
	if err := Expire(root); err != nil {
		return "", err
	}
	item.Removed = time.Now().UTC()
	dir := filepath.Join(folder(root), fmt.Sprintf("%020d", item.Removed.UnixNano()))
	if err := os.Mkdir(dir, 0o711); err != nil {
		return "", errs.Wrap("put into the trash", err)
	}
	return dir, errs.Wrap("put into the trash", atomicfile.WriteJSON(filepath.Join(dir, "item.json"), item, atomicfile.Durable))
}

// List lists what is there, what was removed last first.
func List(root string) (out []Item) {
	files, _ := filepath.Glob(filepath.Join(folder(root), "*", "item.json"))
	for _, file := range slices.Backward(files) {
		i := Item{}
		if atomicfile.ReadJSON(file, &i) != nil {
			continue
		}
		i.Dir = filepath.Dir(file)
		for _, payload := range []string{Data, Record} {
			if _, err := os.Lstat(filepath.Join(i.Dir, payload)); err == nil {
				out = append(out, i)
				break
			}
		}
	}
	return out
}

// Size is what deleting it would give back at once, in bytes of the disk: of an image, whose layers others may have, it is
// next to nothing.
func (i Item) Size() int64 { return usage.Disk(i.Dir) }

// Drop deletes an item for good.
func Drop(i Item) error { return errs.Wrap("empty the trash", os.RemoveAll(i.Dir)) }

// Expire deletes what has been kept for long enough, and what somebody was killed over.
func Expire(root string) error {
	keep, err := Keep(root)
	if err != nil {
		return err
	}
	whole := map[string]bool{}
	for _, i := range List(root) {
		if time.Since(i.Removed) > keep {
			if err := Drop(i); err != nil {
				return err
			}
		}
		whole[i.Dir] = true
	}
	dirs, _ := filepath.Glob(filepath.Join(folder(root), "[0-9]*"))
	for _, dir := range dirs {
		if fi, err := os.Lstat(dir); err == nil && !whole[dir] && time.Since(fi.ModTime()) > time.Minute {
			if err := os.RemoveAll(dir); err != nil {
				return errs.Wrap("empty the trash", err)
			}
		}
	}
	return nil
}
