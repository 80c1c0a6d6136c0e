//go:build linux

package volume

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// rich fills a folder with all that an archive can lose.
func rich(t *testing.T, dir string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(dir, name) }
	sparse, err := os.Create(at("sparse"))
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := sparse.WriteAt([]byte("middle"), 10<<20)
	err = errors.Join(err1, sparse.Truncate(20<<20), sparse.Close(),
		os.MkdirAll(at("a/b"), 0o755), os.WriteFile(at("a/b/file"), []byte("content"), 0o640), os.Chown(at("a/b/file"), 12, 3000000),
		os.Chmod(at("a/b/file"), 0o4751), os.Link(at("a/b/file"), at("a/link")), os.Symlink("../../etc/passwd", at("a/sym")), os.Lchown(at("a/sym"), 7, 8),
		os.Link(at("a/sym"), at("sym2")), unix.Mkfifo(at("fifo"), 0o622), unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.WriteFile(at("empty"), nil, 0o600), os.WriteFile(at(strings.Repeat("long", 50)), []byte("x"), 0o600), os.WriteFile(at("é\n name"), bytes.Repeat([]byte("y"), 5000), 0o600),
		os.Truncate(at("empty"), 0), unix.Setxattr(at("a/b/file"), "user.k=v%", []byte("a\x00b\nc"), 0), unix.Setxattr(at("a"), "user.dir", []byte("d"), 0),
		unix.Setxattr(at("sparse"), "user.s", []byte("sparse"), 0), os.Chmod(at("a/b"), 0o1777), os.Chmod(dir, 0o751), os.Chown(dir, 5, 6))
	if err != nil {
		t.Fatal(err)
	}
	hole, err := os.Create(at("hole")) // nothing but a hole
	if err := errors.Join(err, hole.Truncate(3<<20+5), hole.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a/b/file", "a/sym", "fifo", "sparse", "a/b", "a", "."} {
		old := []unix.Timespec{{Sec: 1e9, Nsec: 5}, {Sec: 1.1e9, Nsec: 600000007}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, at(name), old, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
}

// describe tells all about a tree: two that are described alike are alike, byte for byte.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	first := map[uint64]string{}
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		same, ok := first[st.Ino]
		if !ok {
			same, first[st.Ino] = name, name
		}
		fmt.Fprintf(&out, "%q %o %d:%d %d %d.%09d = %q", name, st.Mode, st.Uid, st.Gid, st.Rdev, st.Mtim.Sec, st.Mtim.Nsec, same)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, _ := os.Readlink(path)
			fmt.Fprintf(&out, " -> %s", target)
		case unix.S_IFREG:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %d bytes %x holes %v", len(b), sum(b), st.Blocks*512 < int64(len(b))/2)
			fallthrough
		case unix.S_IFDIR:
			list := make([]byte, 4096)
			n, _ := unix.Listxattr(path, list)
			for _, x := range strings.Split(string(list[:n]), "\x00") {
				value := make([]byte, 4096)
				n, _ := unix.Getxattr(path, x, value)
				fmt.Fprintf(&out, " %s=%q", x, value[:max(n, 0)])
			}
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func sum(b []byte) (h uint64) {
	for _, c := range b {
		h = h*1099511628211 + uint64(c) + 1
	}
	return h
}

func TestArchiveLosesNothing(t *testing.T) {
	s := Open(t.TempDir())
	v, err := s.Create("rich", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	rich(t, v.Mountpoint)
	want := describe(t, v.Mountpoint)
	var archive bytes.Buffer
	if err := s.Export(&archive, "rich", nobody); err != nil {
		t.Fatal(err)
	}
	if archive.Len() > 100<<10 {
		t.Errorf("the archive has %d bytes: holes were written", archive.Len())
	}
	packed := archive.Bytes()
	if err := s.Import(bytes.NewReader(packed), "copy", nobody); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, s.path("copy", "_data")); got != want {
		t.Errorf("imported:\n%s\nwant:\n%s", got, want)
	}
	var again bytes.Buffer
	if err := s.Export(&again, "copy", nobody); err != nil || !bytes.Equal(again.Bytes(), packed) {
		t.Errorf("the archive of the copy differs: %d and %d bytes, %v", again.Len(), len(packed), err)
	}
	if _, err := s.Clone("rich", "clone", nil, nobody); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, s.path("clone", "_data")); got != want {
		t.Errorf("cloned:\n%s\nwant:\n%s", got, want)
	}
	// GNU tar reads what we write, and we read what it writes.
	dir := t.TempDir()
	tarCommand(t, bytes.NewReader(packed), nil, "-x", "--xattrs", "--xattrs-include=*", "-C", dir)
	if got := describe(t, dir); got != want {
		t.Errorf("unpacked by tar:\n%s\nwant:\n%s", got, want)
	}
	var gnu bytes.Buffer
	tarCommand(t, nil, &gnu, "-c", "--format=pax", "--sparse", "--xattrs", "--xattrs-include=*", "-C", dir, ".")
	if err := s.Import(&gnu, "gnu", nobody); err != nil {
		t.Fatal(err)
	}
	if got := describe(t, s.path("gnu", "_data")); got != want {
		t.Errorf("packed by tar:\n%s\nwant:\n%s", got, want)
	}
}

func tarCommand(t *testing.T, in io.Reader, out io.Writer, args ...string) {
	t.Helper()
	cmd := exec.Command("tar", args...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("tar %v: %v: %s", args, err, said.String())
	}
}

// bad archives make no volume, and nothing outside of one.
func TestImportRefuses(t *testing.T) {
	root := t.TempDir()
	s := Open(root)
	archive := func(hs ...tar.Header) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for i := range hs {
			hs[i].Mode = 0o644
			if err := w.WriteHeader(&hs[i]); err != nil {
				t.Fatal(err)
			}
			_, _ = w.Write(make([]byte, hs[i].Size))
		}
		_ = w.Close()
		return b.Bytes()
	}
	for name, b := range map[string][]byte{
		"none": []byte(strings.Repeat("this is no archive ", 100)), "dotdot": archive(tar.Header{Name: "../x", Typeflag: tar.TypeReg}),
		"cut": archive(tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: 4096})[:1024], "root": archive(tar.Header{Name: ".", Typeflag: tar.TypeReg}),
		"hardlink": archive(tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}),
	} {
		if err := s.Import(bytes.NewReader(b), "vol", nobody); err == nil {
			t.Errorf("%s was imported", name)
		}
		if left, _ := os.ReadDir(s.dir); len(left) != 0 {
			t.Fatalf("%s left %v", name, left)
		}
	}
	// Links that lead out are kept as links, and nothing goes through them.
	out := t.TempDir()
	b := archive(tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: out}, tar.Header{Name: "l/x", Typeflag: tar.TypeReg}, tar.Header{Name: "/abs", Typeflag: tar.TypeReg})
	if err := s.Import(bytes.NewReader(b), "links", nobody); err != nil {
		t.Fatal(err)
	}
	if made, _ := os.ReadDir(out); len(made) != 0 {
		t.Errorf("outside: %v", made)
	}
	if _, err := os.Stat(s.path("links", "_data/abs")); err != nil {
		t.Error(err)
	}
	// What is there is kept.
	if err := s.Import(bytes.NewReader(b), "links", nobody); !errs.Is(err, errs.Conflict) {
		t.Errorf("over data: %v", err)
	}
}

func TestRenameAndClone(t *testing.T) {
	s := Open(t.TempDir())
	var told []string
	s.Tell = func(action, name string) { told = append(told, action+" "+name) }
	for _, name := range []string{"one", "two"} {
		if _, err := s.Create(name, map[string]string{"k": "v"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Rename("one", "two", nobody); !errs.Is(err, errs.Conflict) {
		t.Errorf("over another: %v", err)
	}
	if err := s.Use("one", "c1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Rename("one", "three", everybody); !errs.Is(err, errs.Conflict) {
		t.Errorf("in use: %v", err)
	}
	if err := s.Rename("one", "../x", nobody); !errs.Is(err, errs.Invalid) {
		t.Errorf("a path: %v", err)
	}
	if err := s.Rename("one", "three", nobody); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get("three"); err != nil || v.Name != "three" || v.Mountpoint != s.path("three", "_data") || v.Labels["k"] != "v" {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := s.Get("one"); !errs.Is(err, errs.NotFound) {
		t.Errorf("the old name: %v", err)
	}
	if _, err := s.Clone("two", "three", nil, nobody); !errs.Is(err, errs.Conflict) {
		t.Errorf("clone over another: %v", err)
	}
	v, err := s.Snapshot("two", "", nobody)
	if err != nil || v.Labels[SnapshotLabel] != "two" || !strings.HasPrefix(v.Name, "two-2") {
		t.Errorf("%+v, %v", v, err)
	}
	if want := "destroy one"; !strings.Contains(strings.Join(told, ","), want) {
		t.Errorf("told: %v", told)
	}
}

func TestFillingIsNotSwept(t *testing.T) {
	s := Open(t.TempDir())
	old := time.Now().Add(-time.Hour)
	_, err := s.Fill("vol", nil, func(data string) error {
		if err := os.Chtimes(filepath.Dir(data), old, old); err != nil {
			return err
		}
		if err := s.Sweep(); err != nil {
			return err
		}
		_, err := os.Stat(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	left := s.path(".new-killed")
	if err := errors.Join(os.Mkdir(left, 0o755), os.WriteFile(filepath.Join(left, "lock"), nil, 0o600), os.Chtimes(left, old, old), s.Sweep()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("what a killed one left is there: %v", err)
	}
}

func TestFilesAndUsage(t *testing.T) {
	s := Open(t.TempDir())
	v, err := s.Create("vol", nil, nil)
	if err := errors.Join(err, os.MkdirAll(filepath.Join(v.Mountpoint, "d/e"), 0o755), os.WriteFile(filepath.Join(v.Mountpoint, "d/f"), make([]byte, 1000), 0o600),
		os.Link(filepath.Join(v.Mountpoint, "d/f"), filepath.Join(v.Mountpoint, "g")), os.Symlink("/etc", filepath.Join(v.Mountpoint, "out"))); err != nil {
		t.Fatal(err)
	}
	if u, err := s.DiskUsage("vol", nobody); err != nil || u.Files != 4 || u.Size != 1000+4 {
		t.Errorf("%+v, %v", u, err)
	}
	for path, want := range map[string]string{"/": "/d /g /out", "d": "/d/e /d/f", "d/f": "/d/f", "../../d": "/d/e /d/f"} {
		files, err := s.Files("vol", path, false, nobody)
		var got []string
		for _, f := range files {
			got = append(got, filepath.Clean(f.Path))
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
	if files, err := s.Files("vol", "out", true, nobody); err == nil {
		t.Errorf("through a link that leads out: %v", files)
	}
}
