//go:build linux

// Package imagemount mounts images on folders of the host, read-only. A mount lasts until it is unmounted or the host
// starts anew: no process stays with it. What is mounted is written down in the state folder, in images/*.json, before
// it is attached; a record counts as long as the very mount that it names is where it says.
package imagemount

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
)

// Mount is an image that is mounted.
type Mount struct {
	ImageID string
	Image   string // as it was named
	Path    string
	Created time.Time
	Trees   []string // of its layers
	Number  uint64   // the kernel's (statx(2), STATX_MNT_ID; unique since Linux 6.8)
}

func folder(state string) string { return filepath.Join(state, "images") }

// record is the file that describes what is mounted on a path.
func record(state, path string) string {
	sum := sha256.Sum256([]byte(path))
	return filepath.Join(folder(state), hex.EncodeToString(sum[:8])+".json")
}

// List lists what is mounted, the oldest first. Records of mounts that are gone are removed.
func List(state string) (out []Mount, err error) {
	files, _ := filepath.Glob(filepath.Join(folder(state), "*.json"))
	for _, file := range files {
		var m Mount
		err := atomicfile.ReadJSON(file, &m)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errs.New(errs.Internal, "list mounted images", err).WithHint("unmount it by umount, and remove that file")
		}
		if number, err := numberAt(m.Path); err != nil || number != m.Number {
			forget(state, m.Path)
			continue
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Mount) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// numberAt is the kernel's number of the mount that is on top of a path.
func numberAt(path string) (uint64, error) {
	f, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return number(f)
}

func number(f *os.File) (uint64, error) {
	var sx unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID|unix.STATX_MNT_ID_UNIQUE, &sx)
	return sx.Mnt_id, err
}

// forget removes a record, and the mount point if it is one of ours.
func forget(state, path string) {
	_ = os.Remove(record(state, path))
	if filepath.Dir(path) == folder(state) {
		_ = os.Remove(path)
	}
}

// Attach mounts an image on a folder that is there, or on one below the state folder if path is "": if it is mounted
// there already, nothing more is done.
func Attach(store *image.Store, state, name, path string) (*Mount, error) {
	lock, err := store.Writing()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	img, err := store.Resolve(name)
	if err != nil {
		return nil, err
	}
	if path == "" {
		path = filepath.Join(folder(state), strings.TrimPrefix(img.ID, "sha256:"))
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, errs.Wrap("mount image", err)
		}
	}
	if path, err = filepath.Abs(path); err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "mount image on "+path, err)
	}
	list, err := List(state)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		if m.Path == path && m.ImageID == img.ID {
			return &m, nil
		}
		if m.Path == path {
			return nil, errs.Text(errs.Conflict, "mount image "+name+": "+path+" has the image "+m.Image+" already")
		}
	}
	m := &Mount{ImageID: img.ID, Image: name, Path: path, Created: time.Now().UTC()}
	if m.Trees, err = store.Lowers(img); err != nil {
		return nil, err
	}
	return m, attach(state, m)
}

func attach(state string, m *Mount) error {
	target, err := os.OpenFile(m.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errs.New(errs.Invalid, "mount image "+m.Image, err)
	}
	defer target.Close()
	tree, err := mount.Overlay(mount.OverlayOptions{Lowers: m.Trees})
	if err != nil {
		return errs.Wrap("mount image "+m.Image, err)
	}
	defer tree.Close()
	if err := tree.SetAttr(mount.Options{Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID}); err != nil {
		return err
	}
	if m.Number, err = number(tree.File()); err != nil {
		return errs.Wrap("mount image "+m.Image, err)
	}
	if err = os.MkdirAll(folder(state), 0o700); err == nil {
		err = atomicfile.WriteJSON(record(state, m.Path), m, atomicfile.Fast)
	}
	if err != nil {
		return errs.Wrap("mount image "+m.Image, err)
	}
	if err := tree.Attach(target, "the files of an image can be read here"); err != nil {
		forget(state, m.Path)
		return err
	}
	return nil
}

// Detach unmounts an image, by its path or by the image's name. What is in use is left, unless lazy is set: then it is
// gone for everybody who does not use it yet.
func Detach(store *image.Store, state, what string, lazy bool) (*Mount, error) {
	list, err := List(state)
	if err != nil {
		return nil, err
	}
	path, _ := filepath.Abs(what)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	chosen := slices.DeleteFunc(slices.Clone(list), func(m Mount) bool { return m.Path != path })
	if len(chosen) == 0 {
		if img, err := store.Resolve(what); err == nil {
			chosen = slices.DeleteFunc(list, func(m Mount) bool { return m.ImageID != img.ID })
		}
	}
	switch len(chosen) {
	case 0:
		return nil, errs.Text(errs.NotFound, "no image is mounted: "+what).WithHint("berth image mount lists those that are")
	case 1:
	default:
		return nil, errs.Text(errs.Invalid, "image "+what+" is mounted several times: name a path").WithHint("berth image mount lists them")
	}
	m, flags := &chosen[0], 0
	if lazy {
		flags = unix.MNT_DETACH
	}
	err = mount.Unmount(m.Path, flags, "the image is not wanted here any more")
	if errors.Is(err, unix.EBUSY) {
		return nil, errs.New(errs.Conflict, "unmount image "+m.Image, errors.New(m.Path+" is in use")).WithHint("berth image unmount --force")
	}
	if err == nil {
		forget(state, m.Path)
	}
	return m, err
}
