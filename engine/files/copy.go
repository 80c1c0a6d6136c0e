//go:build linux

package files

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
)

// place is one side of a copy, as far as its rules need it (docker cp).
type place struct {
	name     string // as the user wrote it
	isDir    bool
	exists   bool
	contents bool // name ends in /. : what is in the folder, not the folder
	slash    bool // name ends in / : a folder, or an error
}

func newPlace(name string, stat func(string) (fs.FileMode, error)) (place, error) {
	p := place{name: name, contents: strings.HasSuffix(name, "/.") || name == ".", slash: strings.HasSuffix(name, "/")}
	mode, err := stat(name)
	switch {
	case err == nil:
		p.exists, p.isDir = true, mode.IsDir()
	case errs.Is(err, errs.NotFound) || errors.Is(err, fs.ErrNotExist):
	default:
		return p, err
	}
	return p, nil
}

func statLocal(name string) (fs.FileMode, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return fi.Mode(), nil
}

// target decides in which folder a copy arrives, and under which name; "" keeps what is in the folder.
func target(from, to place) (folder, as string, err error) {
	base := path.Base(path.Clean(from.name))
	switch {
	case !from.exists:
		return "", "", errs.Text(errs.NotFound, "no such file or directory: "+from.name)
	case from.isDir && to.exists && !to.isDir:
		return "", "", errs.Text(errs.Invalid, "cannot copy a directory to a file")
	case from.isDir && from.contents && to.exists:
		return to.name, ".", nil
	case to.exists && to.isDir:
		return to.name, base, nil
	case to.slash && !from.isDir:
		return "", "", errs.Text(errs.NotFound, "no such directory: "+to.name)
	}
	return path.Dir(path.Clean(to.name)), path.Base(path.Clean(to.name)), nil
}

// CopyIn copies a file or folder of the host into the tree, by the rules of docker cp.
func (t *Tree) CopyIn(source, destination string, o Options) error {
	from, err := newPlace(source, func(name string) (fs.FileMode, error) {
		if o.flags(name) == 0 {
			return statLocal(name)
		}
		fi, err := os.Lstat(name)
		if err != nil {
			return 0, err
		}
		return fi.Mode(), nil
	})
	if err != nil {
		return errs.Wrap("copy "+source, err)
	}
	to, err := newPlace(destination, t.Stat)
	if err != nil {
		return err
	}
	folder, as, err := target(from, to)
	if err != nil {
		return err
	}
	dir, name := filepath.Dir(filepath.Clean(source)), filepath.Base(filepath.Clean(source))
	if from.isDir || o.FollowLink {
		if dir, err = filepath.EvalSymlinks(source); err != nil {
			return errs.Wrap("copy "+source, err)
		}
		name = ""
		if !from.isDir {
			dir, name = filepath.Dir(dir), filepath.Base(dir)
		}
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(layer.Pack(w, dir, layer.PackOptions{From: name, As: as})) }()
	defer r.Close()
	return t.CopyTo(folder, owned(r, o.Archive))
}

// CopyOut copies a file or folder of the tree to the host.
func (t *Tree) CopyOut(source, destination string, o Options) error {
	from, err := newPlace(source, func(name string) (fs.FileMode, error) { return t.stat(name, o.flags(name)) })
	if err != nil {
		return err
	}
	if !from.exists {
		return t.missing(source)
	}
	to, err := newPlace(destination, statLocal)
	if err != nil {
		return errs.Wrap("copy to "+destination, err)
	}
	folder, as, err := target(from, to)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(t.CopyFrom(source, w, o)) }()
	defer r.Close()
	_, err = layer.Apply(renamed(owned(r, o.Archive), as), folder, layer.Limits{Plain: true})
	return errs.Wrap("copy to "+destination, err)
}

// rewrite passes an archive on with changed headers.
func rewrite(r io.Reader, change func(h *tar.Header)) io.Reader {
	out, w := io.Pipe()
	go func() {
		in, to := tar.NewReader(r), tar.NewWriter(w)
		for {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				w.CloseWithError(to.Close())
				return
			}
			if err == nil {
				change(h)
				err = to.WriteHeader(h)
			}
			if err == nil {
				_, err = io.Copy(to, in)
			}
			if err != nil {
				w.CloseWithError(err)
				return
			}
		}
	}()
	return out
}

// owned makes the caller the owner of everything, unless the archive's owners are to stay (-a).
func owned(r io.Reader, archive bool) io.Reader {
	if archive {
		return r
	}
	return rewrite(r, func(h *tar.Header) { h.Uid, h.Gid, h.Uname, h.Gname = os.Getuid(), os.Getgid(), "", "" })
}

// renamed changes the first part of each name.
func renamed(r io.Reader, as string) io.Reader {
	first := ""
	rename := func(name string) string {
		head, rest, _ := strings.Cut(strings.TrimPrefix(name, "./"), "/")
		if first == "" {
			first = head
		}
		if head != first || first == "." {
			return path.Join(as, name)
		}
		return path.Join(as, rest)
	}
	return rewrite(r, func(h *tar.Header) {
		folder := strings.HasSuffix(h.Name, "/")
		h.Name, h.Format = rename(h.Name), tar.FormatUnknown // of the new name
		if h.Typeflag == tar.TypeLink {
			h.Linkname = rename(h.Linkname)
		}
		if folder {
			h.Name += "/"
		}
	})
}
