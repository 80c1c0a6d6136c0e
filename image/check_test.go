//go:build linux

package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// flaws describes what a check finds, and mends it if wanted.
func flaws(t *testing.T, s *Store, mend bool) string {
	t.Helper()
	found, err := s.Unfinished()
	if err != nil {
		t.Fatal(err)
	}
	more, err := s.Check(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range append(found, more...) {
		text := f.Kind + ": " + f.Why
		if f.Advice != "" {
			text += " → " + f.Advice
		}
		out = append(out, text)
		if mend && f.Mend != nil {
			if err := f.Mend(); err != nil {
				t.Errorf("mend %+v: %v", f, err)
			}
		}
	}
	return strings.Join(out, "\n")
}

// Each damage is found, mended, and not there any more then. What is left is what only a pull brings back.
func TestCheckFindsAndMends(t *testing.T) {
	s := Open(t.TempDir())
	img := importOne(t, s, "a", "1")
	blob, dir := img.Layers[0].Blob, s.layerDir(img.Layers[0].DiffID)
	tree := filepath.Join(dir, "fs")
	if got := flaws(t, s, false); got != "" {
		t.Fatalf("of a store that is whole: %s", got)
	}
	write := func(path, content string) func() error {
		return func() error { return os.WriteFile(path, []byte(content), 0o600) }
	}
	for _, c := range []struct {
		name        string
		damage      func() error
		found, left string
	}{
		{"an empty file, as after a power cut", func() error { return os.Truncate(tree+"/file", 0) }, "layer: 1 files are not as the layer has them: /file (size)", ""},
		{"content of the same size and time", func() error {
			var st unix.Stat_t
			if err := unix.Stat(tree+"/file", &st); err != nil {
				return err
			}
			if err := os.WriteFile(tree+"/file", []byte("x"), 0o644); err != nil {
				return err
			}
			return unix.UtimesNanoAt(unix.AT_FDCWD, tree+"/file", []unix.Timespec{st.Atim, st.Mtim}, 0)
		}, "layer: 1 files are not as the layer has them: /file (content)", ""},
		{"a lost file", func() error { return os.Remove(tree + "/file") }, "layer: 1 files are not as the layer has them: /file is missing", ""},
		{"a file too much", write(tree+"/other", ""), "layer: 1 files are not as the layer has them: /other is too much", ""},
		{"the root's mode", func() error { return os.Chmod(tree, 0o700) }, "layer: 1 files are not as the layer has them: / (mode)", ""},
		{"a lost tree", func() error { return os.RemoveAll(dir) }, "layer: its files are not there", ""},
		{"an empty note beside it", write(dir+"/"+layerFile, ""), "layer: what is written down of it cannot be read", ""},
		{"an empty record", write(s.recordPath(img.ID), ""), "image: what is written down of it cannot be read", ""},
		{"half a layer", func() error { return os.MkdirAll(s.root+"/layers/.new-1/fs", 0o700) }, "folder: it was not finished", ""},
		{"a name of nothing", func() error {
			return os.Symlink("sha256:"+strings.Repeat("0", 64), s.root+"/refs/docker.io/library/a/_tags/x")
		},
			"name: its image is not there → berth pull a:x, or load it again", ""},
		{"another blob", write(s.blobs.Path(blob), "x"), "blob: its content has another digest; of docker.io/library/a:latest → berth pull a:latest, or load it again: until then it cannot be saved and pushed",
			"blob: it is not there; of docker.io/library/a:latest → berth pull a:latest, or load it again: until then it cannot be saved and pushed"},
		{"an empty record, and no blob", write(s.recordPath(img.ID), ""), "image: what is written down of it cannot be read, nor be found out: its layer " + string(blob) +
			" is not there → berth pull a:latest, or load it again", ""},
	} {
		if err := c.damage(); err != nil {
			t.Fatal(err)
		}
		if got := flaws(t, s, true); got != c.found {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, c.found)
		}
		if got := flaws(t, s, false); got != c.left {
			t.Errorf("%s, mended:\n%s\nwant\n%s", c.name, got, c.left)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("what cannot be mended is listed: %v, %v", list, err)
	}
}

// The record that was made again is what it was.
func TestRecordIsMadeAgain(t *testing.T) {
	s := Open(t.TempDir())
	img := importOne(t, s, "a", "1")
	if err := os.Truncate(s.recordPath(img.ID), 1); err != nil {
		t.Fatal(err)
	}
	flaws(t, s, true)
	got, err := s.Resolve("a")
	if err != nil {
		t.Fatal(err)
	}
	got.Added = img.Added
	if string(marshal(got)) != string(marshal(img)) {
		t.Errorf("got\n%s\nwant\n%s", marshal(got), marshal(img))
	}
}
