//go:build linux

package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/osthread"
	"github.com/berth-containers/berth/internal/testutil"
	"github.com/berth-containers/berth/linux/namespace"
)

// unionFolders makes n layers, top first, each with a file that all have and one of its own, and the folders for a
// mount.
func unionFolders(t *testing.T, dir string, n int) OverlayOptions {
	t.Helper()
	o := OverlayOptions{Upper: filepath.Join(dir, "rw/fs"), Work: filepath.Join(dir, "rw/work"), Volatile: true}
	for i := range n {
		layer := filepath.Join(dir, fmt.Sprintf("layer%d", i))
		write(t, filepath.Join(layer, "common"), fmt.Sprint(i))
		write(t, filepath.Join(layer, fmt.Sprintf("only%d", i)), "x")
		o.Lowers = append(o.Lowers, layer)
	}
	mkdirs(t, o.Upper, o.Work, filepath.Join(dir, "merged"))
	return o
}

// eachWay runs a test once for each way of telling the kernel the layers.
func eachWay(t *testing.T, fn func(t *testing.T, w way)) {
	for name, w := range map[string]way{"by handle": byHandle, "by name": byName, "by text": byText} {
		t.Run(name, func(t *testing.T) { fn(t, w) })
	}
}

// tryOverlay skips the test where this kernel does not know the way.
func tryOverlay(t *testing.T, o OverlayOptions, w way) (*Tree, error) {
	t.Helper()
	tree, err := overlay(o, w)
	if err == errOldKernel {
		t.Skip("this kernel does not know the way")
	}
	if errs.Is(err, errs.Unsupported) {
		t.Skip(err)
	}
	return tree, err
}

func TestOverlayOfAnyDepth(t *testing.T) {
	for _, n := range []int{1, 3, 130, 300, 500} {
		dir := t.TempDir()
		o := unionFolders(t, dir, n)
		merged := filepath.Join(dir, "merged")
		t.Run(fmt.Sprintf("%d layers", n), func(t *testing.T) {
			eachWay(t, func(t *testing.T, w way) {
				if err := errors.Join(os.RemoveAll(o.Upper), os.RemoveAll(o.Work)); err != nil {
					t.Fatal(err)
				}
				mkdirs(t, o.Upper, o.Work)
				testutil.InMountNamespace(t, func() {
					tree, err := tryOverlay(t, o, w)
					attach(t, merged, tree, err)
					if got := read(t, filepath.Join(merged, "common")); got != "0" {
						t.Errorf("layer %s is on top", got)
					}
					read(t, filepath.Join(merged, fmt.Sprintf("only%d", n-1)))
					write(t, filepath.Join(merged, "new"), "written")
					if got := read(t, filepath.Join(o.Upper, "new")); got != "written" {
						t.Errorf("the upper folder has %q", got)
					}
				})
			})
		})
	}
	if _, err := Overlay(OverlayOptions{Lowers: make([]string, 501)}); !errs.Is(err, errs.Unsupported) {
		t.Errorf("501 layers: %v", err)
	}
}

func TestOverlayOfOneFolder(t *testing.T) {
	dir := t.TempDir()
	o := unionFolders(t, dir, 1)
	merged := filepath.Join(dir, "merged")
	testutil.InMountNamespace(t, func() {
		tree, err := Overlay(OverlayOptions{Lowers: o.Lowers})
		if lacks(unix.SYS_MOUNT_SETATTR) && err != nil {
			t.Fatal(err)
		}
		attach(t, merged, tree, err)
		if got := read(t, filepath.Join(merged, "common")); got != "0" {
			t.Errorf("the layer holds %q", got)
		}
		if err := os.WriteFile(filepath.Join(merged, "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("a write without an upper folder: %v", err)
		}
	})
	testutil.InMountNamespace(t, func() {
		tree, err := Overlay(OverlayOptions{Upper: o.Upper, Work: o.Work})
		attach(t, merged, tree, err)
		write(t, filepath.Join(merged, "x"), "from scratch")
		read(t, filepath.Join(o.Upper, "x"))
	})
	if _, err := Overlay(OverlayOptions{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("nothing at all: %v", err)
	}
	if _, err := Overlay(OverlayOptions{Lowers: []string{o.Lowers[0], filepath.Join(dir, "none")}}); !errors.Is(err, unix.ENOENT) ||
		!strings.Contains(err.Error(), "none") {
		t.Errorf("a missing layer: %v", err)
	}
}

// Names that mean something in the text of options, or are too long for one.
func TestOverlayOfStrangeNames(t *testing.T) {
	deep := strings.Repeat("d", 200)
	for _, name := range []string{`a,b:c\d`, filepath.Join(deep, deep, deep), "a b\nc"} {
		eachWay(t, func(t *testing.T, w way) {
			dir := filepath.Join(t.TempDir(), name)
			o := unionFolders(t, dir, 2)
			testutil.InMountNamespace(t, func() {
				tree, err := tryOverlay(t, o, w)
				attach(t, filepath.Join(dir, "merged"), tree, err)
				if got := read(t, filepath.Join(dir, "merged/common")); got != "0" {
					t.Errorf("the top layer holds %q", got)
				}
			})
		})
	}
}

// The upper folder must hold what a diff of layers understands: a renamed folder is there as a whole.
func TestOverlayMovesNothingByReference(t *testing.T) {
	dir := t.TempDir()
	o := unionFolders(t, dir, 2)
	write(t, filepath.Join(o.Lowers[1], "folder/file"), "x")
	merged := filepath.Join(dir, "merged")
	testutil.InMountNamespace(t, func() {
		tree, err := Overlay(o)
		attach(t, merged, tree, err)
		if err := os.Rename(filepath.Join(merged, "folder"), filepath.Join(merged, "moved")); !errors.Is(err, unix.EXDEV) {
			t.Errorf("a folder of a layer was renamed: %v", err)
		}
		if err := os.Chmod(filepath.Join(merged, "only1"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := read(t, filepath.Join(o.Upper, "only1")); got != "x" {
			t.Errorf("the content was not copied up with the mode: %q", got)
		}
	})
}

func TestVolatileLeftoverIsExplained(t *testing.T) {
	dir := t.TempDir()
	o := unionFolders(t, dir, 2)
	testutil.InMountNamespace(t, func() {
		for i := range 2 {
			tree, err := Overlay(o)
			if i == 0 {
				attach(t, filepath.Join(dir, "merged"), tree, err)
				if err := Unmount(filepath.Join(dir, "merged"), 0, "test"); err != nil {
					t.Fatal(err)
				}
			} else if !errs.Is(err, errs.Conflict) || !strings.Contains(errs.HintOf(err), "volatile") {
				t.Errorf("mounted again: %v, hint %q", err, errs.HintOf(err))
			}
		}
	})
}

// asUser runs fn on a thread whose file system ids are those of a user outside.
func asUser(t *testing.T, id int, fn func()) {
	t.Helper()
	err := osthread.Run(func() error {
		if err := unix.Setfsgid(id); err != nil {
			return err
		}
		if err := unix.Setfsuid(id); err != nil {
			return err
		}
		fn()
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Through id maps the container's root, who is a nobody outside, owns what root owns on disk, reads and changes it, and
// what it makes is root's on disk.
func TestOverlayThroughIDMaps(t *testing.T) {
	const first = 100000
	maps := []namespace.IDMap{{Container: 0, Host: first, Size: 65536}}
	ns, err := namespace.UserNamespace(maps, maps)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	eachWay(t, func(t *testing.T, w way) {
		dir := t.TempDir()
		o := unionFolders(t, dir, 3)
		o.UserNS = ns
		if err := os.Chown(filepath.Join(o.Lowers[2], "only2"), 7, 8); err != nil {
			t.Fatal(err)
		}
		merged, err := os.MkdirTemp("/tmp", "mount-test-") // which others may enter
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(merged)
		if err := os.Chmod(merged, 0o755); err != nil {
			t.Fatal(err)
		}
		testutil.InMountNamespace(t, func() {
			tree, err := tryOverlay(t, o, w)
			attach(t, merged, tree, err)
			for name, want := range map[string][2]uint32{"": {first, first}, "common": {first, first}, "only2": {first + 7, first + 8}} {
				var st unix.Stat_t
				if err := unix.Stat(filepath.Join(merged, name), &st); err != nil || [2]uint32{st.Uid, st.Gid} != want {
					t.Errorf("%q is of %d:%d, %v; want %v", name, st.Uid, st.Gid, err, want)
				}
			}
			fd, err := unix.Open(merged, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			asUser(t, first, func() {
				at := fmt.Sprintf("/proc/self/fd/%d/", fd)
				if err := os.WriteFile(at+"new", []byte("new"), 0o644); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(at+"common", []byte("changed"), 0o644); err != nil {
					t.Error(err)
				}
				if err := errors.Join(os.Remove(at+"only1"), os.Mkdir(at+"only1", 0o755)); err != nil {
					t.Error(err)
				}
			})
		})
		for name, want := range map[string]uint32{"new": 0, "common": 0, "only1": 0} {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(o.Upper, name), &st); err != nil || st.Uid != want {
				t.Errorf("on disk %s is of %d, %v; want %d", name, st.Uid, err, want)
			}
		}
		if got := read(t, filepath.Join(o.Lowers[0], "common")); got != "0" {
			t.Errorf("the layer was changed to %q", got)
		}
	})
	if _, err := Overlay(OverlayOptions{Lowers: []string{t.TempDir()}, Upper: t.TempDir(), Work: "/", UserNS: ns}); !errs.Is(err, errs.Invalid) &&
		!errs.Is(err, errs.Unsupported) {
		t.Errorf("upper and work folders apart: %v", err)
	}
}
