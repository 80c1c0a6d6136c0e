//go:build linux

package mount

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/testutil"
)

func TestCopyUp(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "folder/sub/file"), "content")
	if err := errors.Join(
		os.Chown(filepath.Join(dir, "folder/sub/file"), 12, 34),
		os.Chmod(filepath.Join(dir, "folder/sub/file"), 0o751|os.ModeSetuid),
		os.Chown(filepath.Join(dir, "folder/sub"), 56, 78),
		os.Chmod(filepath.Join(dir, "folder/sub"), 0o777|os.ModeSticky),
		os.Symlink("/etc/passwd", filepath.Join(dir, "link")),
		os.Lchown(filepath.Join(dir, "link"), 9, 10),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o622),
		unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
	); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"folder/sub/file", "folder/sub", "link", "fifo"} {
		old := []unix.Timespec{{Sec: 1e9, Nsec: 5}, {Sec: 1.1e9, Nsec: 6}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, name), old, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	testutil.InMountNamespace(t, func() {
		tree, err := Filesystem("tmpfs", "copy", Options{Data: []string{"mode=0711"}})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		if err := CopyUp(handle(t, dir), tree); err != nil {
			t.Fatal(err)
		}
		names := []string{"folder", "folder/sub", "folder/sub/file", "link", "fifo", "null"}
		var want, got [6]unix.Stat_t
		for i, name := range names {
			if err := unix.Lstat(filepath.Join(dir, name), &want[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := tree.Attach(handle(t, dir), "test"); err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			if err := unix.Lstat(filepath.Join(dir, name), &got[i]); err != nil {
				t.Error(err)
				continue
			}
			g, w := got[i], want[i]
			if g.Mode != w.Mode || g.Uid != w.Uid || g.Gid != w.Gid || g.Rdev != w.Rdev || g.Mtim != w.Mtim || g.Mode&unix.S_IFMT != unix.S_IFDIR && g.Size != w.Size {
				t.Errorf("%s is %+v, want %+v", name, g, w)
			}
		}
		if got := read(t, filepath.Join(dir, "folder/sub/file")); got != "content" {
			t.Errorf("the file holds %q", got)
		}
		if target, err := os.Readlink(filepath.Join(dir, "link")); target != "/etc/passwd" {
			t.Errorf("the link names %q, %v", target, err)
		}
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o711 {
			t.Errorf("the root has mode %v, %v", fi.Mode(), err)
		}
	})
}

// blocks is how much of a disk a file takes, in units of 512 bytes.
func blocks(t *testing.T, name string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks
}

func TestCopyKeepsHardLinksAndHoles(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, filepath.Join(from, "a/one"), "content")
	write(t, filepath.Join(from, "sparse"), "begin")
	f, err := os.OpenFile(filepath.Join(from, "sparse"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("middle"), 32<<20)
	if err := errors.Join(err, f.Truncate(64<<20), f.Close(), os.Mkdir(filepath.Join(from, "b"), 0o755), os.Link(filepath.Join(from, "a/one"), filepath.Join(from, "b/two"))); err != nil {
		t.Fatal(err)
	}
	if err := CopyFolder(handle(t, from), handle(t, to)); err != nil {
		t.Fatal(err)
	}
	one, err1 := os.Stat(filepath.Join(to, "a/one"))
	two, err2 := os.Stat(filepath.Join(to, "b/two"))
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(one, two) {
		t.Errorf("the links are separate: %v", err)
	}
	if a, b := read(t, filepath.Join(from, "sparse")), read(t, filepath.Join(to, "sparse")); a != b {
		t.Errorf("the sparse file has %d bytes, want %d, or other ones", len(b), len(a))
	}
	if n := blocks(t, filepath.Join(to, "sparse")); n > blocks(t, filepath.Join(from, "sparse"))+64 {
		t.Errorf("the copy takes %d blocks", n)
	}
}
