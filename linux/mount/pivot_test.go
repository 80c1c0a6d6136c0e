//go:build linux

package mount

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/testutil"
)

// Inside, everything is done that a start of a container does to its mounts. The mount namespace that this one was
// copied from, with all mounts shared as systemd makes them, must be the same before and after, byte for byte.
func TestPivotRootLeavesNothingOfTheHost(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "here"), "")
	mkdirs(t, filepath.Join(dir, "sub"))
	testutil.InMountNamespace(t, func() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
			t.Fatal(err)
		}
		before := mounts(t)
		host, err := os.Open("/proc/thread-self/ns/mnt")
		if err != nil {
			t.Fatal(err)
		}
		defer host.Close()
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			t.Fatal(err)
		}
		pivot(t, dir)
		if err := unix.Setns(int(host.Fd()), unix.CLONE_NEWNS); err != nil {
			t.Fatal(err)
		}
		if after := mounts(t); after != before {
			t.Errorf("the mounts outside changed from\n%s\nto\n%s", before, after)
		}
	})
}

// pivot makes a folder, with a tmpfs in it, the root of the calling thread's mount namespace.
func pivot(t *testing.T, dir string) {
	t.Helper()
	if err := SetPropagation("/", unix.MS_SLAVE|unix.MS_REC, "test"); err != nil {
		t.Fatal(err)
	}
	bind, err := Bind(handle(t, dir), false)
	attach(t, dir, bind, err)
	r, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sub, err := r.Open("sub", unix.O_PATH)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	tmp, err := Filesystem("tmpfs", "tmpfs", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tmp.Close()
	if err := tmp.Attach(sub, "test"); err != nil {
		t.Fatal(err)
	}
	// A mount on top of the host's root: no look-up of / goes through it, but umount2(2) does.
	over, err := Filesystem("tmpfs", "tmpfs", Options{})
	attach(t, "/", over, err)
	proc, err := OpenProcfs()
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	defer func() {
		inside, err := proc.Open("thread-self/mountinfo", unix.O_RDONLY)
		if err != nil {
			t.Fatal(err)
		}
		defer inside.Close()
		b, err := io.ReadAll(inside)
		if n := strings.Count(string(b), "\n"); err != nil || n != 2 {
			t.Errorf("%d mounts are left, %v; want the root and one on it:\n%s", n, err, b)
		}
	}()
	if err := PivotRoot(r); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/", "/..", "."} {
		if es, err := os.ReadDir(name); err != nil || len(es) != 2 || es[0].Name() != "here" {
			t.Errorf("%s has %v, %v", name, es, err)
		}
	}
	// getcwd(2) says "(unreachable)" of a folder outside of the root (CVE-2024-21626).
	buf := make([]byte, unix.PathMax)
	if n, err := unix.Getcwd(buf); err != nil || string(buf[:n-1]) != "/" {
		t.Errorf("working directory %q, %v", buf[:n], err)
	}
}

func TestPivotRootNeedsAMountPoint(t *testing.T) {
	_, r := root(t)
	testutil.InMountNamespace(t, func() {
		if err := PivotRoot(r); !errors.Is(err, unix.EINVAL) {
			t.Errorf("to a folder: %v", err)
		}
	})
}

func TestMoveRoot(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "here"), "")
	testutil.InMountNamespace(t, func() {
		bind, err := Bind(handle(t, dir), false)
		attach(t, dir, bind, err)
		r, err := OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := MoveRoot(r); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"/", "/..", "."} {
			if es, err := os.ReadDir(name); err != nil || len(es) != 1 || es[0].Name() != "here" {
				t.Errorf("%s has %v, %v", name, es, err)
			}
		}
	})
}

func TestUnmountOfWhatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	testutil.InMountNamespace(t, func() {
		for _, path := range []string{dir, filepath.Join(dir, "none")} {
			if err := Unmount(path, 0, "test"); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
}
