//go:build linux

package quota

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/testutil"
)

// Many take a number at once, for folders that are there: each gets another; that of a folder that is gone is taken again.
func TestTakenNumbersDiffer(t *testing.T) {
	root := t.TempDir()
	p := OpenProjects(root)
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[uint32]bool{}
	for range 20 {
		wg.Go(func() {
			id, err := p.Take(root) // the same holder: all begin to look at the same number
			mu.Lock()
			defer mu.Unlock()
			if err != nil || seen[id] || id < 1<<20 {
				t.Errorf("%d, %v", id, err)
			}
			seen[id] = true
		})
	}
	wg.Wait()
	gone := filepath.Join(root, "gone")
	if err := os.Mkdir(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	first, err1 := p.Take(gone)
	err := os.Remove(gone)
	again, err2 := p.Take(gone)
	if err := errors.Join(err1, err, err2); err != nil || first != again {
		t.Errorf("%d and %d, %v", first, again, err)
	}
}

func TestSize(t *testing.T) {
	for _, bad := range []string{"", "x", "1k", "-5m", "0"} {
		if n, err := Size(bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %d, %v", bad, n, err)
		}
	}
	if n, err := Size("10m"); err != nil || n != 10<<20 {
		t.Errorf("%d, %v", n, err)
	}
}

// A file system in a file takes what it has room for, and nothing more; its loop device goes with the mount.
func TestImage(t *testing.T) {
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("no mkfs.ext4")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("no loop devices")
	}
	testutil.InMountNamespace(t, func() {
		dir := t.TempDir()
		image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
		if err := MakeImage(image, 2<<20); err != nil {
			t.Fatal(err)
		}
		if err := MakeImage(image, 2<<20); err == nil {
			t.Error("an image was made over another")
		}
		for range 2 { // the second finds it mounted
			if err := Mount(image, at); err != nil {
				t.Fatal(err)
			}
		}
		if names, _ := os.ReadDir(at); len(names) != 0 {
			t.Errorf("it begins with %v", names)
		}
		err := os.WriteFile(filepath.Join(at, "big"), make([]byte, 3<<20), 0o600)
		fi, _ := os.Stat(filepath.Join(at, "big"))
		if !errors.Is(err, unix.ENOSPC) || fi.Size() < 2<<20 || fi.Size() > 2<<20+64<<10 {
			t.Errorf("three MiB into two: %v, %d bytes", err, fi.Size())
		}
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
		if mounted(at) {
			t.Error("it was mounted twice")
		}
	})
}
