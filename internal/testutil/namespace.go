//go:build linux

package testutil

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/osthread"
)

// InMountNamespace runs fn on a thread in a mount namespace of its own. Whatever fn mounts is gone when it returns, and
// the host never sees it. fn may fail or skip the test in every way. It must not start goroutines that use its mounts,
// and reads /proc/thread-self, because /proc/self is the main thread's.
func InMountNamespace(t *testing.T, fn func()) {
	t.Helper()
	inNamespaces(t, unix.CLONE_NEWNS, func() error {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		fn()
		return nil
	})
}

// InNamespaces runs fn on a thread in new namespaces of the given kinds (CLONE_NEWNET, CLONE_NEWUTS, …), under the
// rules of [InMountNamespace]. A new pid namespace would be that of fn's children.
func InNamespaces(t *testing.T, flags int, fn func()) {
	t.Helper()
	if flags&unix.CLONE_NEWNS != 0 {
		InMountNamespace(t, func() {
			if err := unix.Unshare(flags &^ unix.CLONE_NEWNS); err != nil {
				t.Fatalf("make namespaces: %v", err)
			}
			fn()
		})
		return
	}
	inNamespaces(t, flags, func() error { fn(); return nil })
}

func inNamespaces(t *testing.T, flags int, fn func() error) {
	t.Helper()
	returned := false
	err := osthread.Run(func() error {
		err := unix.Unshare(flags)
		if err == nil {
			err = fn()
		}
		returned = true
		return err
	})
	switch {
	case err != nil:
		t.Fatalf("make namespaces: %v", err)
	case returned:
	case t.Failed():
		t.FailNow() // fn ended its own goroutine only
	case t.Skipped():
		t.SkipNow()
	}
}
