//go:build linux

package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// entry is one entry of an archive.
type entry struct {
	tar.Header
	content string
}

func archive(t testing.TB, entries ...entry) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.content))
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func file(name, content string) entry { return entry{tar.Header{Name: name}, content} }

func link(kind byte, name, target string) entry {
	return entry{tar.Header{Name: name, Linkname: target, Typeflag: kind}, ""}
}

func apply(t *testing.T, entries ...entry) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := Apply(archive(t, entries...), dir, Limits{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAttributes(t *testing.T) {
	at := time.Unix(1_000_000_000, 0)
	dir := apply(t,
		entry{tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1777, ModTime: at, Uid: 7}, ""},
		entry{tar.Header{Name: "d/f", Mode: 0o4755, Uid: 70000, Gid: 80000, ModTime: at, PAXRecords: map[string]string{
			"SCHILY.xattr.user.x": "y", "SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.security.selinux": "no"}}, "text"},
		link(tar.TypeLink, "d/same", "d/f"),
		link(tar.TypeSymlink, "d/sym", "/nowhere"),
		entry{tar.Header{Name: "d/pipe", Typeflag: tar.TypeFifo, Mode: 0o600}, ""},
		entry{tar.Header{Name: "d/null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3, Mode: 0o666}, ""},
	)
	var st unix.Stat_t
	if err := unix.Lstat(dir+"/d/f", &st); err != nil || st.Uid != 70000 || st.Gid != 80000 || st.Mode != unix.S_IFREG|0o4755 || st.Nlink != 2 {
		t.Errorf("file: %+v, %v", st, err)
	}
	if fi, err := os.Stat(dir + "/d"); err != nil || !fi.ModTime().Equal(at) || fi.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("folder: %v, %v", fi, err)
	}
	if target, err := os.Readlink(dir + "/d/sym"); err != nil || target != "/nowhere" {
		t.Errorf("link: %q, %v", target, err)
	}
	if err := unix.Lstat(dir+"/d/null", &st); err != nil || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("device: %+v, %v", st, err)
	}
	value := make([]byte, 10)
	if n, err := unix.Lgetxattr(dir+"/d/f", "user.x", value); err == nil && string(value[:n]) != "y" {
		t.Errorf("attribute: %q", value[:n])
	}
	if _, err := unix.Lgetxattr(dir+"/d/f", "trusted.overlay.redirect", value); err == nil {
		t.Error("an archive has set an attribute of overlayfs")
	}
}

func TestWhiteouts(t *testing.T) {
	dir := apply(t, file("gone", "x"), file(".wh.gone", ""), file("d/.wh..wh..opq", ""), file("d/new", "n"), file("e/.wh.sub", ""), file(".wh..wh.plnk", ""))
	var st unix.Stat_t
	for _, name := range []string{"gone", "e/sub"} {
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
			t.Errorf("%s is no whiteout: %+v, %v", name, st, err)
		}
	}
	value := make([]byte, 4)
	if n, err := unix.Lgetxattr(dir+"/d", opaqueXattr, value); err != nil || string(value[:n]) != "y" {
		t.Errorf("the folder is not opaque: %q, %v", value[:n], err)
	}
	if _, err := os.Lstat(dir + "/.wh..wh.plnk"); err == nil {
		t.Error("a file of aufs was made")
	}
}

// Whatever an archive tries, all of it ends inside, and nothing outside is read, written or removed.
func TestTricksEndInside(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(outside+"/victim", []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 20)
	dir := apply(t,
		file(up+"a", "1"),
		file("/b", "2"),
		link(tar.TypeSymlink, "out", outside),
		file("out/victim", "changed"),
		link(tar.TypeSymlink, "up", up+strings.TrimPrefix(outside, "/")),
		file("up/.wh.victim", ""),
		link(tar.TypeSymlink, "self", "self2"),
		link(tar.TypeSymlink, "f", outside+"/victim"),
		file("f", "replaced"),
		file("x/y", "3"),
		link(tar.TypeSymlink, "x/z", ".."),
		file("x/z/z2", "4"),
	)
	if got := content(t, outside+"/victim"); got != "whole" {
		t.Errorf("a file outside is %q", got)
	}
	entries, err := os.ReadDir(outside)
	if err != nil || len(entries) != 1 {
		t.Errorf("outside there are %v, %v", entries, err)
	}
	for name, want := range map[string]string{"a": "1", "b": "2", "f": "replaced", "z2": "4"} {
		if got := content(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	for _, bad := range [][]entry{
		{link(tar.TypeLink, "l", "/etc/passwd")},
		{link(tar.TypeLink, "l", up+"etc/passwd")},
		{link(tar.TypeSymlink, "s", "/etc"), link(tar.TypeLink, "l", "s/passwd")},
	} {
		if _, err := Apply(archive(t, bad...), t.TempDir(), Limits{}); err == nil {
			t.Errorf("a link out of the layer was made: %v", bad)
		}
	}
}

func TestReplacing(t *testing.T) {
	dir := apply(t,
		file("a/deep/file", "old"),
		entry{tar.Header{Name: "a/deep", Typeflag: tar.TypeSymlink, Linkname: "elsewhere"}, ""},
		file("b", "old"),
		entry{tar.Header{Name: "b/", Typeflag: tar.TypeDir, Mode: 0o755}, ""},
		file("b/c", "new"),
		file("b/c", "newer"),
	)
	if target, err := os.Readlink(dir + "/a/deep"); err != nil || target != "elsewhere" {
		t.Errorf("%q, %v", target, err)
	}
	if got := content(t, dir+"/b/c"); got != "newer" {
		t.Errorf("%q", got)
	}
}

func TestLimits(t *testing.T) {
	big := archive(t, file("a", strings.Repeat("x", 1000)), file("b", "y"))
	if _, err := Apply(bytes.NewReader(big.Bytes()), t.TempDir(), Limits{Bytes: 1000}); err == nil || !strings.Contains(err.Error(), "more than 1000 bytes") {
		t.Errorf("bytes: %v", err)
	}
	if _, err := Apply(bytes.NewReader(big.Bytes()), t.TempDir(), Limits{Entries: 1}); err == nil || !strings.Contains(err.Error(), "more than 1 entries") {
		t.Errorf("entries: %v", err)
	}
	if _, err := Apply(bytes.NewReader(big.Bytes()[:700]), t.TempDir(), Limits{}); err == nil {
		t.Error("a layer that is cut was taken")
	}
}

func TestDecompress(t *testing.T) {
	plain := archive(t, file("a", "b")).Bytes()
	r, kind, err := Decompress(bytes.NewReader(plain))
	if err != nil || kind != None {
		t.Fatal(kind, err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, _, err := Decompress(bytes.NewReader([]byte{0x1f, 0x8b, 0, 0, 0})); err == nil {
		t.Error("broken gzip was taken")
	}
	if _, _, err := Decompress(bytes.NewReader(nil)); err != nil {
		t.Errorf("nothing at all: %v", err)
	}
}

// What an archive says must never be a panic, and never reach out of the tree.
func FuzzApply(f *testing.F) {
	f.Add(archive(f, file("a/b", "c"), link(tar.TypeSymlink, "l", ".."), file("l/x", "y"), file(".wh.a", "")).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		base := t.TempDir()
		dir := filepath.Join(base, "tree")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, _ = Apply(bytes.NewReader(b), dir, Limits{Bytes: 1 << 20, Entries: 1000})
		entries, err := os.ReadDir(base)
		if err != nil || len(entries) != 1 {
			t.Errorf("beside the tree: %v, %v", entries, errors.Join(err))
		}
	})
}
