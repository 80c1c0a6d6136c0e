//go:build linux

package testutil

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountsStayInside(t *testing.T) {
	dir := t.TempDir()
	InMountNamespace(t, func() {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "inside"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(now, []byte(dir)) {
			t.Errorf("the process has the thread's mount: %v", err)
		}
		if now, err := os.ReadFile("/proc/thread-self/mountinfo"); err != nil || !bytes.Contains(now, []byte(dir)) {
			t.Errorf("the thread does not have it: %v", err)
		}
	})
	if es, err := os.ReadDir(dir); err != nil || len(es) != 0 {
		t.Errorf("seen outside: %v, %v", es, err)
	}
}

func TestSkipInsideSkipsTheTest(t *testing.T) {
	ended := t.Run("skips", func(t *testing.T) {
		InNamespaces(t, unix.CLONE_NEWUTS|unix.CLONE_NEWNS, func() { t.Skip("shown on purpose") })
		t.Error("it went on")
	})
	if !ended {
		t.Error("it failed")
	}
}
