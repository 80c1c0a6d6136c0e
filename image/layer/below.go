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
	var places []string
	for _, l := range layers {
		e := lookup(l, filepath.Clean(path))
		switch {
		case e.info == nil:
		case e.info.Mode()&fs.ModeSymlink != 0 && len(places) == 0:
			return nil, errs.Text(errs.Invalid, "cannot access path "+path+" in image: it leads through a link")
		case e.info.IsDir(), e.info.Mode().IsRegular() && !e.onTheWay && len(places) == 0:
			places = append(places, e.place)
		}
		if e.hides {
			break
		}
	}
	if len(places) == 0 {
		return nil, errs.Text(errs.Invalid, "cannot access path "+path+" in image: no such file or directory")
	}
	return places, nil
}

// Has reports whether a union of layers, the topmost first, has something at a path, of whatever kind.
func Has(layers []string, path string) bool {
	path = strings.Trim(filepath.Clean("/"+path), "/")
	if path == "" {
		return true
	}
	for _, l := range layers {
		e := lookup(l, path)
		if e.info != nil && !e.onTheWay {
			return true
		}
		if e.hides {
			return false
		}
	}
	return false
}

// found is what one layer says of a path.
type found struct {
	place    string
	info     fs.FileInfo // nil: nothing is there
	onTheWay bool        // it is no folder, and the path goes on behind it
	hides    bool        // what layers below have there is not seen
}

// lookup follows a path in one layer.
func lookup(layer, path string) found {
	e := found{place: layer}
	names := strings.Split(path, "/")
	for i, name := range names {
		e.place = filepath.Join(e.place, name)
		fi, err := os.Lstat(e.place)
		if err != nil {
			return found{hides: e.hides || !errors.Is(err, fs.ErrNotExist)}
		}
		e.info = fi
		switch {
		case fi.IsDir():
			f, err := os.Open(e.place)
			if err != nil {
				return found{hides: true}
			}
			e.hides = IsOpaque(f) || e.hides
			f.Close()
		case hidesAll(fi):
			return found{hides: true}
		default:
			e.hides, e.onTheWay = true, i < len(names)-1
			return e
		}
	}
	return e
}

func hidesAll(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && IsWhiteout(st.Mode, st.Rdev)
}
