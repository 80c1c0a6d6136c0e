//go:build linux

package testutil

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// The main thread stands for the whole process in /proc/self; no goroutine that leaves the host's namespaces may get it.
func init() { runtime.LockOSThread() }

// InMountNamespace runs fn on a thread in a mount namespace of its own. Whatever fn mounts is gone when it returns. fn
// must not start goroutines that use its mounts, and fails the test with t.Error and return, not with t.Fatal.
func InMountNamespace(t *testing.T, fn func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("make a mount namespace: %v", err)
	}
}
