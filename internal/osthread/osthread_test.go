//go:build linux

package osthread

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

func TestRunLeavesTheProcessWhereItWas(t *testing.T) {
	before, err := os.Readlink("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	// Many at once, so that one of them would get the main thread.
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			err := Run(func() error {
				if syscall.Gettid() == syscall.Getpid() {
					t.Error("on the main thread")
				}
				return syscall.Unshare(syscall.CLONE_NEWUTS)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if after, err := os.Readlink("/proc/self/ns/uts"); err != nil || after != before {
		t.Errorf("the process is in %s now, was in %s; %v", after, before, err)
	}
}

func TestRunReturnsHoweverItEnds(t *testing.T) {
	no := errors.New("no")
	if err := Run(func() error { return no }); err != no {
		t.Errorf("error %v", err)
	}
	if err := Run(func() error { runtime.Goexit(); return no }); err != nil {
		t.Errorf("error %v after Goexit", err)
	}
}
