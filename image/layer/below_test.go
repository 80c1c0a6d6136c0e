//go:build linux

package layer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

func TestBelow(t *testing.T) {
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"top/a/b", "mid/a/b", "mid/opaque/x", "low/a/b/c", "low/gone", "low/opaque/x", "low/opaque/y", "low/f"} {
		must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	for _, f := range []string{"top/f", "mid/a/file", "low/a/file"} {
		must(os.WriteFile(filepath.Join(dir, f), nil, 0o644))
	}
	must(unix.Mknod(filepath.Join(dir, "mid/gone"), unix.S_IFCHR, 0))
	must(unix.Setxattr(filepath.Join(dir, "mid/opaque"), opaqueXattr, []byte("y"), 0))
	must(os.Symlink("/etc", filepath.Join(dir, "mid/link")))
	layers := []string{dir + "/top", dir + "/mid", dir + "/low"}
	for path, want := range map[string]string{
		"a/b":      "top/a/b mid/a/b low/a/b",
		"a/b/c":    "low/a/b/c",
		"a/file":   "mid/a/file",
		"opaque/x": "mid/opaque/x",
		"f":        "top/f",
		".":        "top mid low",
	} {
		got, err := Below(layers, path)
		must(err)
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], dir+"/")
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: %s, want %s", path, s, want)
		}
	}
	for _, path := range []string{"gone", "opaque/y", "nothing", "link", "link/passwd", "../low", "/a", "f/x", ""} {
		if got, err := Below(layers, path); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
	for path, want := range map[string]bool{"/a/b/c": true, "/": true, "link": true, "f": true, "opaque/x": true, "opaque/y": false, "gone": false, "gone/x": false, "f/x": false,
		"link/passwd": false, "nothing": false} {
		if Has(layers, path) != want {
			t.Errorf("has %s: %v", path, !want)
		}
	}
}
