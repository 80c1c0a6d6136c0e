//go:build linux

package volume

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

func nobody(string) bool    { return false }
func everybody(string) bool { return true }

func TestLifeOfAVolume(t *testing.T) {
	s := Open(t.TempDir())
	v, err := s.Create("data", map[string]string{"a": "b"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Mountpoint, "x"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := s.Create("data", nil, nil)
	if err != nil || again.Labels["a"] != "b" {
		t.Fatalf("again: %+v, %v", again, err)
	}
	if err := s.Use("data", "c1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("data", everybody); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "volume is in use - [c1]") {
		t.Errorf("a used volume: %v", err)
	}
	if b, _ := os.ReadFile(filepath.Join(v.Mountpoint, "x")); string(b) != "kept" {
		t.Error("a refused removal took data")
	}
	s.Release("data", "c1")
	if err := s.Remove("data", everybody); err != nil {
		t.Error(err)
	}
	if _, err := s.Get("data"); !errs.Is(err, errs.NotFound) {
		t.Errorf("removed and found: %v", err)
	}
	if left, _ := os.ReadDir(s.dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// The first data come into a volume as a whole or not at all, once, and never over what is there.
func TestBegin(t *testing.T) {
	s := Open(t.TempDir())
	v, err := s.Create("data", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	fill := func(data string) error { return os.WriteFile(filepath.Join(data, "x"), []byte("image's"), 0o600) }
	if err := s.Begin(v, "c1", func(data string) error { return errors.Join(fill(data), errors.New("killed")) }); err == nil || !Empty(v.Mountpoint) {
		t.Errorf("half of it is there: %v", err)
	}
	if err := os.MkdirAll(s.path("data", "_data.new", "half"), 0o755); err != nil { // of one that was killed
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	times := atomic.Int32{}
	for range 4 {
		wg.Go(func() {
			if err := s.Begin(v, "c1", func(data string) error { times.Add(1); return fill(data) }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, _ := os.ReadDir(v.Mountpoint); times.Load() != 1 || len(left) != 1 || exists(s.path("data", "_data.new")) {
		t.Errorf("filled %d times: %v", times.Load(), left)
	}
	// A container that has the folder already keeps it.
	other, err1 := s.Create("other", nil, nil)
	before, err2 := os.Stat(other.Mountpoint)
	err = errors.Join(err1, err2, s.Use("other", "c1"), s.Use("other", "c2"), s.Begin(other, "c2", fill))
	after, _ := os.Stat(other.Mountpoint)
	if err != nil || !os.SameFile(before, after) || Empty(other.Mountpoint) {
		t.Errorf("the folder was replaced: %v", err)
	}
}

func TestBadInput(t *testing.T) {
	dir := t.TempDir()
	s := Open(dir)
	for _, name := range []string{"../x", "a/b", ".x", "a", "-x", strings.Repeat("x", 256), "a b"} {
		if _, err := s.Create(name, nil, nil); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := s.Get(name); !errs.Is(err, errs.NotFound) {
			t.Errorf("get %q: %v", name, err)
		}
	}
	for _, o := range []map[string]string{{"foo": "bar"}, {"type": "nfs"}, {"device": "/x"}} {
		if _, err := s.Create("opts", nil, o); !errs.Is(err, errs.Invalid) {
			t.Errorf("%v: %v", o, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("bad input made %v", left)
	}
}

func TestUnusedAreAnonymousUnlessAll(t *testing.T) {
	s := Open(t.TempDir())
	anon, err := s.Create("", nil, nil)
	if err != nil || len(anon.Name) != 64 || !anon.Anonymous() {
		t.Fatalf("%+v, %v", anon, err)
	}
	for _, n := range []string{"named", "used"} {
		if _, err := s.Create(n, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Use("used", "c"); err != nil {
		t.Fatal(err)
	}
	for all, want := range map[bool]int{false: 1, true: 2} {
		if vs, err := s.Unused(all, everybody); err != nil || len(vs) != want {
			t.Errorf("all=%v: %v, %v", all, vs, err)
		}
	}
	if vs, _ := s.Unused(true, nobody); len(vs) != 3 {
		t.Errorf("a dead user keeps a volume: %v", vs)
	}
}

func TestParallelCreatorsGetOneVolume(t *testing.T) {
	s := Open(t.TempDir())
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			v, err := s.Create("one", nil, nil)
			if err != nil || v.Name != "one" {
				t.Errorf("%v, %v", v, err)
			}
		})
	}
	wg.Wait()
	if es, _ := os.ReadDir(s.dir); len(es) != 1 {
		t.Errorf("left: %v", es)
	}
}

func TestDeviceIsMountedWhileUsed(t *testing.T) {
	done := make(chan struct{})
	go func() { // the thread has a mount namespace of its own and ends with the goroutine
		defer close(done)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Error(err)
			return
		}
		s := Open(t.TempDir())
		v, err := s.Create("mem", nil, map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,nosuid,mode=700"})
		if err != nil {
			t.Error(err)
			return
		}
		for range 2 {
			if err := s.Mount(v); err != nil {
				t.Error(err)
			}
		}
		var st unix.Statfs_t
		if err := unix.Statfs(v.Mountpoint, &st); err != nil || st.Type != unix.TMPFS_MAGIC || st.Flags&unix.ST_NOSUID == 0 {
			t.Errorf("%+v, %v", st, err)
		}
		if err := s.Use("mem", "c"); err != nil {
			t.Error(err)
		}
		if err := s.Unmount("mem", everybody); err != nil || !mounted(v.Mountpoint, s.path("mem")) {
			t.Errorf("unmounted under its user: %v", err)
		}
		if err := s.Remove("mem", nobody); err != nil {
			t.Error(err)
		}
	}()
	<-done
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
