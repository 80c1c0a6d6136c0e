//go:build linux

package engine

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine/change"
	"github.com/berth-containers/berth/engine/files"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
)

// withRoot gives fn the container's root: that of its program while it runs, because a second union mount over a write
// layer that is in use has no defined meaning; one that is mounted nowhere otherwise.
func (c *Container) withRoot(fn func(dir string) error) error {
	if pid, err := c.pid(); err == nil {
		return fn(fmt.Sprintf("/proc/%d/root", pid))
	}
	rw, err := c.writeLayer()
	if err != nil {
		return err
	}
	tree, err := mount.Overlay(mount.OverlayOptions{Lowers: c.Lowers, Upper: filepath.Join(rw, "fs"), Work: filepath.Join(rw, "work")})
	if err != nil {
		return err
	}
	defer tree.Close()
	return fn(mount.HandlePath(tree.File()))
}

// Export writes the container's root as a tar archive, without what is mounted on it.
func (c *Container) Export(w io.Writer) error {
	if err := c.withRoot(func(dir string) error { return layer.Pack(w, dir, layer.PackOptions{Bare: true}) }); err != nil {
		return err
	}
	c.tell("export")
	return nil
}

// Commit makes an image of the container, which is paused meanwhile.
func (c *Container) Commit(o CommitOptions) (string, error) {
	base, err := c.e.images.Resolve(c.ImageID)
	if err != nil {
		return "", err
	}
	change, err := change.Parse(o.Changes)
	if err != nil {
		return "", err
	}
	if c.Running() && !o.NoPause {
		if err := c.Pause(); err == nil {
			defer c.Unpause()
		}
	}
	rw, err := c.writeLayer()
	if err != nil {
		return "", err
	}
	img, err := c.e.images.Commit(base, filepath.Join(rw, "fs"), image.CommitOptions{Ref: o.Ref, Author: o.Author, Message: o.Message,
		CreatedBy: strings.Join(c.Process.Args, " "), Change: change})
	if err != nil {
		return "", err
	}
	c.tell("commit", "imageID", img.ID, "imageRef", o.Ref)
	return img.ID, nil
}

// Change is one line of diff.
type Change struct {
	Kind string // A added, C changed, D deleted
	Path string
}

// Diff lists what the container has changed of its image.
func (c *Container) Diff() ([]Change, error) {
	rw, err := c.writeLayer()
	if err != nil {
		return nil, err
	}
	upper := filepath.Join(rw, "fs")
	var out []Change
	err = filepath.WalkDir(upper, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || file == upper {
			return err
		}
		name := strings.TrimPrefix(file, upper)
		var st unix.Stat_t
		if err := unix.Lstat(file, &st); err != nil {
			return nil
		}
		kind := "A"
		if layer.IsWhiteout(st.Mode, st.Rdev) {
			kind = "D"
		} else if layer.Has(c.Lowers, name) {
			kind = "C"
		}
		if kind == "A" && st.Size == 0 && slices.Contains([]string{"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}, name) {
			return nil // it was made for a mount of ours
		}
		out = append(out, Change{kind, name})
		return nil
	})
	if etc := slices.Index(out, Change{"C", "/etc"}); etc >= 0 && !slices.ContainsFunc(out, func(o Change) bool { return strings.HasPrefix(o.Path, "/etc/") }) {
		out = slices.Delete(out, etc, etc+1)
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return out, errs.Wrap("compare with image", err)
}

// files are the container's, to be copied from and to.
func (c *Container) files() *files.Tree {
	return &files.Tree{What: "container " + c.Name, ReadOnly: c.HostConfig.ReadonlyRootfs, With: c.withRoot}
}

// CopyFrom writes a file or folder of the container as a tar archive, whose first name is its last part.
func (c *Container) CopyFrom(name string, w io.Writer, o CopyOptions) error {
	return c.told("archive-path", c.files().CopyFrom(name, w, o))
}

// PathStat tells what is at a path of the container.
func (c *Container) PathStat(name string) (mode fs.FileMode, err error) { return c.files().Stat(name) }

// CopyTo unpacks a tar archive into a folder of the container.
func (c *Container) CopyTo(folder string, r io.Reader, o CopyOptions) error {
	return c.told("extract-to-dir", c.files().CopyTo(folder, r))
}

// CopyIn copies a file or folder of the host into the container.
func (c *Container) CopyIn(source, destination string, o CopyOptions) error {
	return c.told("extract-to-dir", c.files().CopyIn(source, destination, o))
}

// CopyOut copies a file or folder of the container to the host.
func (c *Container) CopyOut(source, destination string, o CopyOptions) error {
	return c.told("archive-path", c.files().CopyOut(source, destination, o))
}
