//go:build linux

package engine

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine/change"
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
	rw := filepath.Join(c.dataDir(), "rw")
	tree, err := mount.Overlay(mount.OverlayOptions{Lowers: c.Lowers, Upper: filepath.Join(rw, "fs"), Work: filepath.Join(rw, "work")})
	if err != nil {
		return err
	}
	defer tree.Close()
	return fn(mount.HandlePath(tree.File()))
}

// Export writes the container's root as a tar archive.
func (c *Container) Export(w io.Writer) error {
	if err := c.withRoot(func(dir string) error { return layer.Pack(w, dir, layer.PackOptions{}) }); err != nil {
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
	img, err := c.e.images.Commit(base, filepath.Join(c.dataDir(), "rw/fs"), image.CommitOptions{Ref: o.Ref, Author: o.Author, Message: o.Message,
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
	upper := filepath.Join(c.dataDir(), "rw/fs")
	var out []Change
	err := filepath.WalkDir(upper, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || file == upper {
			return err
		}
		name := strings.TrimPrefix(file, upper)
		var st unix.Stat_t
		if err := unix.Lstat(file, &st); err != nil {
			return nil
		}
		kind := "A"
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
			kind = "D"
		} else if c.inImage(name) {
			kind = "C"
		}
		out = append(out, Change{kind, name})
		return nil
	})
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return out, errs.Wrap("compare with image", err)
}

// inImage reports whether the image has something at a path.
func (c *Container) inImage(name string) bool {
	for _, tree := range c.Lowers {
		var st unix.Stat_t
		if unix.Lstat(filepath.Join(tree, name), &st) == nil {
			return st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0
		}
	}
	return false
}

// CopyFrom writes a file or folder of the container as a tar archive, whose first name is its last part.
func (c *Container) CopyFrom(name string, w io.Writer, o CopyOptions) error {
	return c.withRoot(func(dir string) error {
		root, err := mount.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		flags := unix.O_PATH
		if !o.FollowLink {
			flags |= unix.O_NOFOLLOW
		}
		// A folder's name with / or /. behind it is what is in it, whatever leads there.
		if strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") {
			flags &^= unix.O_NOFOLLOW
		}
		f, err := root.Open(name, flags)
		if errors.Is(err, fs.ErrNotExist) {
			return errs.Text(errs.NotFound, fmt.Sprintf("Could not find the file %s in container %s", name, c.Name))
		}
		if err != nil {
			return errs.Wrap("copy from container", err)
		}
		defer f.Close()
		return packOpen(w, root, f, name)
	})
}

// packOpen packs what an open handle below a root is. What its name means may have changed since it was opened: the
// handle decides.
func packOpen(w io.Writer, root *mount.Root, f *os.File, name string) error {
	base := path.Base(path.Clean("/" + name))
	if base == "/" {
		base = "."
	}
	fi, err := f.Stat()
	if err != nil {
		return errs.Wrap("copy from container", err)
	}
	if fi.IsDir() {
		return layer.Pack(w, mount.HandlePath(f), layer.PackOptions{As: base})
	}
	parent, err := root.Open(path.Dir(path.Clean("/"+name)), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return errs.Wrap("copy from container", err)
	}
	defer parent.Close()
	if fi.Mode().IsRegular() {
		return packFile(w, f, base, fi)
	}
	return layer.Pack(w, mount.HandlePath(parent), layer.PackOptions{From: path.Base(path.Clean("/" + name)), As: base})
}

func packFile(w io.Writer, handle *os.File, name string, fi fs.FileInfo) error {
	f, err := mount.Reopen(handle, unix.O_RDONLY)
	if err != nil {
		return errs.Wrap("copy from container", err)
	}
	defer f.Close()
	h, err := tar.FileInfoHeader(fi, "")
	if err != nil {
		return errs.Wrap("copy from container", err)
	}
	h.Name = name
	out := tar.NewWriter(w)
	if err := out.WriteHeader(h); err != nil {
		return errs.Wrap("copy from container", err)
	}
	if _, err := io.Copy(out, f); err != nil {
		return errs.Wrap("copy from container", err)
	}
	return errs.Wrap("copy from container", out.Close())
}

// PathStat tells what is at a path of the container.
func (c *Container) PathStat(name string) (mode fs.FileMode, err error) {
	err = c.withRoot(func(dir string) error {
		root, err := mount.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		f, err := root.Open(name, unix.O_PATH)
		if err != nil {
			return err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err == nil {
			mode = fi.Mode()
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errs.Text(errs.NotFound, fmt.Sprintf("Could not find the file %s in container %s", name, c.Name))
	}
	return mode, err
}

// CopyTo unpacks a tar archive into a folder of the container.
func (c *Container) CopyTo(folder string, r io.Reader, o CopyOptions) error {
	if c.HostConfig.ReadonlyRootfs {
		return errs.Text(errs.Permission, "container rootfs is marked read-only")
	}
	return c.withRoot(func(dir string) error {
		root, err := mount.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		f, err := root.Open(folder, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return errs.New(errs.NotFound, "copy to container", fmt.Errorf("Could not find the file %s in container %s", folder, c.Name))
		}
		defer f.Close()
		// The archive is unpacked below the folder, wherever its links lead.
		_, err = layer.Apply(r, mount.HandlePath(f), layer.Limits{Plain: true})
		return errs.Wrap("copy to container", err)
	})
}
