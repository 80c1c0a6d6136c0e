//go:build linux

package layer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/berth-containers/berth/internal/errs"
)

// Below finds what lies at a path of layers that are stacked, the topmost first: the folders that a union of them would
// merge there, in the same order, or one file. Whiteouts and opaque folders hide what is below them, as overlayfs has it
// (Documentation/filesystems/overlayfs.rst of the kernel). The path is below the root and links in it are not followed:
// who made an image must not choose what of the host is seen.
func Below(layers []string, path string) ([]string, error) {
	if !filepath.IsLocal(path) {
		return nil, errs.Text(errs.Invalid, "subpath must be a relative path within the image")
	}
	var found []string
	for _, l := range layers {
		place, kind, hides := lookup(l, filepath.Clean(path))
		switch {
		case kind == fs.ModeSymlink && len(found) == 0:
			return nil, errs.Text(errs.Invalid, "cannot access path "+path+" in image: it leads through a link")
		case kind == fs.ModeDir, kind == 0 && place != "" && len(found) == 0:
			found = append(found, place)
		}
		if hides {
			break
		}
	}
	if len(found) == 0 {
		return nil, errs.Text(errs.Invalid, "cannot access path "+path+" in image: no such file or directory")
	}
	return found, nil
}

// lookup follows a path in one layer. hides is whether it ends the search in the layers below.
func lookup(layer, path string) (place string, kind fs.FileMode, hides bool) {
	place = layer
	names := strings.Split(path, "/")
	for i, name := range names {
		place = filepath.Join(place, name)
		fi, err := os.Lstat(place)
		if err != nil {
			return "", fs.ModeIrregular, hides || !errors.Is(err, fs.ErrNotExist)
		}
		switch {
		case fi.IsDir():
			f, err := os.Open(place)
			if err != nil {
				return "", fs.ModeIrregular, true
			}
			hides = isOpaque(f) || hides
			f.Close()
		case isWhiteout(fi.Sys().(*syscall.Stat_t)):
			return "", fs.ModeIrregular, true
		case fi.Mode().IsRegular() && i == len(names)-1:
			return place, 0, true
		default:
			return "", fi.Mode() & fs.ModeSymlink, true
		}
	}
	return place, fs.ModeDir, hides
}
