//go:build linux

package layer

import (
	"archive/tar"
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestCompare(t *testing.T) {
	at := time.Unix(1_000_000_000, 0)
	entries := []entry{file("d/a", "1"), file("d/b", "2"), file("e/f/g", "3"), file("same", "4"), link(tar.TypeLink, "linked", "same"), link(tar.TypeSymlink, "s", "t"),
		file("gone", "5"), file("kind", "6"), file("x", "7"), file("d/.wh.w", "")}
	for i := range entries {
		entries[i].ModTime = at
	}
	a, b := apply(t, entries...), apply(t, entries...)
	diff := func() string {
		t.Helper()
		list, err := Compare(a, b)
		if err != nil {
			t.Fatal(err)
		}
		out := []string{}
		for _, c := range list {
			out = append(out, c.Kind+" "+c.Path+" "+c.What)
		}
		return strings.Join(out, "\n")
	}
	if got := diff(); got != "" {
		t.Fatalf("two trees of one archive differ:\n%s", got)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, content string) {
		t.Helper()
		must(os.WriteFile(b+name, []byte(content), 0o644))
		must(os.Chtimes(b+name, at, at))
	}
	write("/d/a", "9")
	must(os.Chmod(b+"/d/b", 0o600))
	must(os.RemoveAll(b + "/e"))
	must(os.Remove(b + "/linked"))
	write("/linked", "4")
	must(os.Remove(b + "/s"))
	must(os.Symlink("u", b+"/s"))
	must(unix.Lutimes(b+"/s", []unix.Timeval{{Sec: at.Unix()}, {Sec: at.Unix()}}))
	must(os.Remove(b + "/kind"))
	must(os.MkdirAll(b+"/kind/new", 0o755))
	must(unix.Setxattr(b+"/x", "user.x", []byte("y"), 0))
	must(os.Remove(b + "/d/w"))
	want := "C /d names\nC /d/a content\nC /d/b mode\nD /d/w \nD /e \nC /kind kind of file\nA /kind/new \nC /linked links\nC /s target\nC /same links\nC /x attributes"
	if got := diff(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The same tree gives the same bytes, in whatever order, by whatever means and where it was made.
func TestPackIsReproducible(t *testing.T) {
	at := time.Unix(1_000_000_000, 0)
	entries := []entry{file("z", "1"), file("d/b", "2"), file("d/a", "3"), link(tar.TypeSymlink, "s", "t"), file("d.e", "4"), file("d/.wh.w", "")}
	for i := range entries {
		entries[i].ModTime = at
	}
	entries[0].PAXRecords = map[string]string{"SCHILY.xattr.user.b": "1", "SCHILY.xattr.user.a": "2", "SCHILY.xattr.user.c": "3"}
	entries = append(entries, entry{tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: at}, ""}, entry{tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: at}, ""})
	second := link(tar.TypeLink, "linked", "z") // comes after the first name
	a := apply(t, append(slices.Clone(entries), second)...)
	slices.Reverse(entries)
	b := apply(t, append(entries, second)...)
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, b+"/d/a", []unix.Timespec{{Sec: 5}, {Sec: at.Unix(), Nsec: 7}}, 0); err != nil {
		t.Fatal(err)
	}
	pack := func(dir string, o PackOptions) string {
		var out bytes.Buffer
		if err := Pack(&out, dir, o); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if pack(a, PackOptions{Upper: true}) != pack(b, PackOptions{Upper: true}) {
		changes, err := Compare(a, b)
		t.Errorf("two archives of one tree differ; the trees: %v, %v", changes, err)
	}
	if err := os.Chtimes(b+"/d.e", at, at.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if o := (PackOptions{Latest: at}); pack(a, o) != pack(b, o) || pack(a, PackOptions{}) == pack(b, PackOptions{}) {
		t.Error("later times do not become the latest")
	}
}
