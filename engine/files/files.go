//go:build linux

// Package files copies files from and to what a container or a volume has. No name is looked up outside of it, whatever
// links somebody puts in meanwhile (CVE-2018-15664, CVE-2019-14271).
package files

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
)

// Options of a copy.
type Options struct {
	Archive              bool // keep uid and gid
	FollowLink           bool // of the source
	NoOverwriteDirNonDir bool // refuse to replace a folder by a file and the other way round
}

// Tree is files that can be copied from and to: a container's or a volume's.
type Tree struct {
	What     string // for messages: "container NAME"
	ReadOnly bool
	With     func(fn func(dir string) error) error // gives fn the folder
}

func (t *Tree) missing(name string) error {
	return errs.Text(errs.NotFound, fmt.Sprintf("Could not find the file %s in %s", name, t.What))
}

// flags say whether a source that is a link is copied itself. A folder's name with / or /. behind it is what is in it, whatever
// leads there.
func (o *Options) flags(name string) int {
	if o.FollowLink || strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") {
		return 0
	}
	return unix.O_NOFOLLOW
}

// CopyFrom writes a file or folder as a tar archive, whose first name is its last part.
func (t *Tree) CopyFrom(name string, w io.Writer, o Options) error {
	return t.With(func(dir string) error {
		root, err := mount.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		f, err := root.Open(name, unix.O_PATH|o.flags(name))
		if errors.Is(err, fs.ErrNotExist) {
			return t.missing(name)
		}
		if err != nil {
			return errs.Wrap("copy from "+t.What, err)
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

// Stat tells what is at a path, links followed.
func (t *Tree) Stat(name string) (mode fs.FileMode, err error) { return t.stat(name, 0) }

func (t *Tree) stat(name string, flags int) (mode fs.FileMode, err error) {
	err = t.With(func(dir string) error {
		root, err := mount.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		f, err := root.Open(name, unix.O_PATH|flags)
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
		return 0, t.missing(name)
	}
	return mode, err
}

// CopyTo unpacks a tar archive into a folder.
func (t *Tree) CopyTo(folder string, r io.Reader) error {
	if t.ReadOnly {
		return errs.Text(errs.Permission, "container rootfs is marked read-only")
	}
	return t.With(func(dir string) error {
		root, err := mount.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		f, err := root.Open(folder, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return errs.Wrap("copy to "+t.What, t.missing(folder))
		}
		defer f.Close()
		// The archive is unpacked below the folder, wherever its links lead.
		_, err = layer.Apply(r, mount.HandlePath(f), layer.Limits{Plain: true})
		return errs.Wrap("copy to "+t.What, err)
	})
}
