//go:build linux

package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

func TestLookUpsStayInside(t *testing.T) {
	dir, r := root(t)
	secret := filepath.Join(dir, "..", "secret")
	write(t, secret, "outside")
	for link, target := range map[string]string{"up": "../secret", "abs": secret, "far": "../../../../../../../../../../" + secret, "dir": "..", "magic": "/proc/self/root"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"up", "abs", "far", "dir/secret", "../secret", "/../secret", "magic" + secret, "nothing/../../secret"} {
		if b, err := r.ReadFile(name, 100); err == nil && len(b) > 0 {
			t.Errorf("%s leads outside", name)
		}
		f, err := r.Create(name, 0o600)
		if err != nil {
			t.Errorf("create %s: %v", name, err)
			continue
		}
		at, err := os.Readlink(HandlePath(f))
		f.Close()
		if err != nil || !strings.HasPrefix(at, dir+"/") {
			t.Errorf("create %s made %s, %v", name, at, err)
		}
	}
	if got := read(t, secret); got != "outside" {
		t.Errorf("the file outside is %q now", got)
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.MkdirAll("loop/x", 0o755); !errors.Is(err, unix.ELOOP) {
		t.Errorf("inside of a link to itself: %v", err)
	}
}

// A magic link of procfs is not bounded by anything, so it is not followed, also where a procfs is inside of the root.
func TestMagicLinksAreNotFollowed(t *testing.T) {
	if lacks(unix.SYS_OPENAT2) {
		t.Skip("without openat2 such a link is taken as its text, and that inside of the root")
	}
	r, err := OpenRoot("/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, name := range []string{"proc/self/exe", "proc/self/root/etc", "proc/self/cwd/x"} {
		if f, err := r.Open(name, unix.O_PATH); err == nil {
			f.Close()
			t.Errorf("%s was followed", name)
		}
	}
}

func TestOpenMeansWhatThePathMeansInside(t *testing.T) {
	dir, r := root(t)
	write(t, filepath.Join(dir, "x/y/file"), "deep")
	write(t, filepath.Join(dir, "file"), "top")
	for link, target := range map[string]string{"abs": "/x/y", "rel": "x/y", "last": "/x/y/file"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"abs/file": "deep", "/rel/file": "deep", "last": "deep", "abs/../../file": "top", "../file": "top", "rel/./.././y/file": "deep", "abs//./file": "deep", "rel/.//../../../file": "top"} {
		if b, err := r.ReadFile(name, 100); string(b) != want {
			t.Errorf("%s holds %q, %v; want %q", name, b, err, want)
		}
	}
	if target, err := r.Readlink("abs/../../last"); target != "/x/y/file" || err != nil {
		t.Errorf("link %q, %v", target, err)
	}
	if _, err := r.Readlink("file"); err == nil {
		t.Error("a file is a link")
	}
	if st, err := r.Lstat("last"); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("lstat of a link: %o, %v", st.Mode, err)
	}
	if st, err := r.Stat("last"); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		t.Errorf("stat of a link: %o, %v", st.Mode, err)
	}
	if _, err := r.Open("last", unix.O_RDONLY|unix.O_NOFOLLOW); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link opened with O_NOFOLLOW: %v", err)
	}
	if _, err := r.Open("file", unix.O_PATH|unix.O_DIRECTORY); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file opened as a folder: %v", err)
	}
	if _, err := r.Open("none", unix.O_PATH); !errors.Is(err, unix.ENOENT) {
		t.Errorf("nothing opened: %v", err)
	}
	f, err := r.Open("last", unix.O_WRONLY|unix.O_TRUNC)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got := read(t, filepath.Join(dir, "x/y/file")); got != "" {
		t.Errorf("not truncated: %q", got)
	}
}

// Where a link leads nowhere, what it names is made, and the kernel says what it names: x/y/../c, not l/../c.
func TestDanglingLinksAreFollowed(t *testing.T) {
	dir, r := root(t)
	mkdirs(t, filepath.Join(dir, "x/y"))
	for link, target := range map[string]string{"varrun": "/run", "l": "/x/y", "x/y/c": "../made/c", "x/y/f": "../made2/f", "chain": "varrun"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"chain/a/b": "run/a/b", "l/c/d": "x/made/c/d"} {
		f, err := r.MkdirAll(name, 0o755)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if at, _ := os.Readlink(HandlePath(f)); at != filepath.Join(dir, want) {
			t.Errorf("%s is %s, want %s", name, at, want)
		}
		f.Close()
	}
	f, err := r.Create("l/f", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if at, _ := os.Readlink(HandlePath(f)); at != filepath.Join(dir, "x/made2/f") {
		t.Errorf("l/f is %s", at)
	}
	f.Close()
}

func TestNodesAreMadeWithTheirModes(t *testing.T) {
	dir, r := root(t)
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for _, what := range []struct {
		name string
		mode uint32
		make func(name string, mode uint32) error
	}{
		{"dir", unix.S_IFDIR | 0o755, func(name string, mode uint32) error {
			f, err := r.MkdirAll(name, mode&0o7777)
			if err == nil {
				f.Close()
			}
			return err
		}},
		{"a/sticky", unix.S_IFDIR | 0o1777, func(name string, mode uint32) error {
			f, err := r.MkdirAll(name, mode&0o7777)
			if err == nil {
				f.Close()
			}
			return err
		}},
		{"b/file", unix.S_IFREG | 0o644, func(name string, mode uint32) error {
			f, err := r.Create(name, mode&0o7777)
			if err == nil {
				f.Close()
			}
			return err
		}},
		{"dev/null", unix.S_IFCHR | 0o666, func(name string, mode uint32) error { return r.Mknod(name, mode, unix.Mkdev(1, 3)) }},
		{"dev/fifo", unix.S_IFIFO | 0o622, func(name string, mode uint32) error { return r.Mknod(name, mode, 0) }},
		{"dev/fd", unix.S_IFLNK | 0o777, func(name string, _ uint32) error { return r.Symlink("/proc/self/fd", name) }},
	} {
		if err := what.make(what.name, what.mode); err != nil {
			t.Errorf("%s: %v", what.name, err)
			continue
		}
		if st, err := r.Lstat(what.name); err != nil || st.Mode != what.mode {
			t.Errorf("%s has mode %o, %v; want %o", what.name, st.Mode, err, what.mode)
		}
	}
	if st, err := r.Stat("dev/null"); err != nil || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("device %x, %v", st.Rdev, err)
	}
	if st, err := r.Stat("b"); err != nil || st.Mode != unix.S_IFDIR|0o755 {
		t.Errorf("a folder made on the way: %o, %v", st.Mode, err)
	}
	if err := r.Mknod("dev/null", unix.S_IFCHR|0o600, unix.Mkdev(1, 5)); !errors.Is(err, unix.EEXIST) {
		t.Errorf("made again: %v", err)
	}
	if err := r.Symlink("elsewhere", "dev/fd"); err != nil {
		t.Error(err)
	}
	if target, _ := r.Readlink("dev/fd"); target != "/proc/self/fd" {
		t.Errorf("the link that was there names %s now", target)
	}
	write(t, filepath.Join(dir, "kept"), "content")
	if f, err := r.Create("kept", 0o600); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	if got := read(t, filepath.Join(dir, "kept")); got != "content" {
		t.Errorf("an existing file became %q", got)
	}
	for _, name := range []string{"/", "..", "dev/..", "."} {
		if err := r.Symlink("x", name); !errs.Is(err, errs.Invalid) {
			t.Errorf("an entry of the name %q: %v", name, err)
		}
	}
}

func TestReadFileRefusesWhatIsNoFile(t *testing.T) {
	dir, r := root(t)
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "big"), strings.Repeat("x", 101))
	mkdirs(t, filepath.Join(dir, "folder"))
	if err := r.Mknod("tty", unix.S_IFCHR|0o666, unix.Mkdev(5, 0)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fifo", "big", "folder", "tty"} {
		if _, err := r.ReadFile(name, 100); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s was read: %v", name, err)
		}
	}
}

func TestRemoveTakesTheEntryAndNotWhatItNames(t *testing.T) {
	dir, r := root(t)
	write(t, filepath.Join(dir, "target"), "stays")
	mkdirs(t, filepath.Join(dir, "empty"), filepath.Join(dir, "full/x"))
	if err := os.Symlink("target", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "empty", "never/was", "neither"} {
		if err := r.Remove(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.Remove("full"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("a folder with something in it: %v", err)
	}
	es, err := os.ReadDir(dir)
	if err != nil || len(es) != 2 || read(t, filepath.Join(dir, "target")) != "stays" {
		t.Errorf("left: %v, %v", es, err)
	}
}

// Somebody swaps a folder for a link to the outside, and moves it about, all the time: nothing may ever appear,
// change or go away outside.
func TestSwappedFolderNeverLeadsOutside(t *testing.T) {
	dir, r := root(t)
	outside := filepath.Join(dir, "..", "outside")
	mkdirs(t, filepath.Join(dir, "real/sub"), filepath.Join(dir, "elsewhere"))
	write(t, filepath.Join(outside, "sub/victim"), "untouched")
	if err := os.Symlink("../outside", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var swaps atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			if unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "real"), unix.AT_FDCWD, filepath.Join(dir, "link"), unix.RENAME_EXCHANGE) == nil {
				swaps.Add(1)
			}
			for _, at := range []string{"real", "link"} {
				_ = os.Rename(filepath.Join(dir, at, "sub"), filepath.Join(dir, "elsewhere/sub"))
				_ = os.Rename(filepath.Join(dir, "elsewhere/sub"), filepath.Join(dir, at, "sub"))
			}
		}
	}()
	made := 0
	for i := 0; i < 400 || swaps.Load() < 100; i++ {
		n := i % 200
		if f, err := r.MkdirAll(fmt.Sprintf("real/sub/d%d/x", n), 0o777); err == nil {
			made++
			f.Close()
		}
		if f, err := r.Create(fmt.Sprintf("link/sub/f%d", n), 0o666); err == nil {
			made++
			f.Close()
		}
		_ = r.Symlink("x", fmt.Sprintf("real/sub/l%d", n))
		_ = r.Mknod(fmt.Sprintf("link/sub/n%d", n), unix.S_IFIFO|0o666, 0)
		_ = r.Remove("real/sub/victim")
		if b, err := r.ReadFile("link/sub/victim", 100); err == nil && len(b) > 0 {
			t.Fatal("a file outside was read")
		}
	}
	stop.Store(true)
	<-done
	if made == 0 {
		t.Error("nothing could be made at all")
	}
	for _, d := range []string{"", "sub"} {
		if es, err := os.ReadDir(filepath.Join(outside, d)); err != nil || len(es) != 1 {
			t.Errorf("outside/%s has %v, %v", d, es, err)
		}
	}
	if got := read(t, filepath.Join(outside, "sub/victim")); got != "untouched" {
		t.Errorf("the file outside is %q", got)
	}
}
