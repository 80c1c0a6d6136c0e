//go:build linux

package flock

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExclusiveExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Exclusive(path)
	if err != nil {
		t.Fatal(err)
	}
	if other, err := TryExclusive(path); other != nil || err != nil {
		t.Fatalf("a second holder: %v, %v", other, err)
	}
	l.Unlock()
	other, err := TryExclusive(path)
	if other == nil || err != nil {
		t.Fatalf("free and not taken: %v, %v", other, err)
	}
	other.Unlock()
}

// Holders that remove the file under waiting others must never let two of them in at once.
func TestRemovedLockFileGuardsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var wg sync.WaitGroup
	inside, shared := make(chan struct{}, 1), 0
	for range 8 {
		wg.Go(func() {
			for range 50 {
				l, err := Exclusive(path)
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case inside <- struct{}{}:
				default:
					t.Error("two holders at once")
				}
				shared++
				<-inside
				l.Remove()
			}
		})
	}
	wg.Wait()
	if shared != 400 {
		t.Errorf("%d turns, want 400", shared)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("lock file left: %v", err)
	}
}

// A process between fork and execve has a copy of every file: it must not keep what is given back, and keeps what it was given.
func TestCopiesOfALock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	for _, kept := range []bool{false, true} {
		l, err := Exclusive(path)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Dup(int(l.File().Fd()))
		if err != nil {
			t.Fatal(err)
		}
		if kept {
			l.Leave()
		} else {
			l.Unlock()
		}
		other, err := TryExclusive(path)
		if err != nil || (other == nil) != kept {
			t.Errorf("left to its copy %v: %v, %v", kept, other, err)
		}
		other.Unlock()
		unix.Close(fd)
	}
}
