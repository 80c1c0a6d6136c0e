//go:build linux

package lsm

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// folder stands for a /proc.
type folder string

func (f folder) Open(name string, flags int) (*os.File, error) {
	return os.OpenFile(filepath.Join(string(f), name), flags, 0)
}

func files(t *testing.T, names ...string) folder {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(n)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return folder(dir)
}

func (f folder) holds(t *testing.T, name, want string) {
	t.Helper()
	if b, err := os.ReadFile(filepath.Join(string(f), name)); err != nil || string(b) != want {
		t.Errorf("%s holds %q, want %q; %v", name, b, want, err)
	}
}

func TestProfileGoesWhereTheKernelTakesIt(t *testing.T) {
	const own, shared = "thread-self/attr/apparmor/exec", "thread-self/attr/exec"
	both := files(t, own, shared)
	if err := ProfileOnExec(both, "p"); err != nil {
		t.Fatal(err)
	}
	both.holds(t, own, "exec p")
	both.holds(t, shared, "")
	old := files(t, shared)
	if err := ProfileOnExec(old, "p"); err != nil {
		t.Fatal(err)
	}
	old.holds(t, shared, "exec p")
	if err := ProfileOnExec(files(t), "p"); err == nil {
		t.Error("a profile that nobody took is no error")
	}
}

func TestLabels(t *testing.T) {
	f := files(t, "thread-self/attr/exec", "thread-self/attr/keycreate")
	if err := LabelOnExec(f, "a:b:c:s0"); err != nil {
		t.Fatal(err)
	}
	if err := LabelKeys(f, "a:b:c:s0"); err != nil {
		t.Fatal(err)
	}
	f.holds(t, "thread-self/attr/exec", "a:b:c:s0")
	f.holds(t, "thread-self/attr/keycreate", "a:b:c:s0")
	if err := LabelOnExec(files(t), ""); err != nil {
		t.Errorf("no label: %v", err)
	}
}

func TestWhatAHostCannotDoIsRefused(t *testing.T) {
	if err := CheckProfile("p\n"); !errs.Is(err, errs.Invalid) {
		t.Errorf("a name of two lines: %v", err)
	}
	if err := CheckProfile("p"); AppArmor() != (err == nil) || err != nil && !errs.Is(err, errs.Unsupported) {
		t.Errorf("AppArmor %v, yet: %v", AppArmor(), err)
	}
	if err := CheckProfile(Unconfined); err != nil {
		t.Error(err)
	}
	var fs unix.Statfs_t
	if unix.Statfs(selinuxfs, &fs) == nil && fs.Type == unix.SELINUX_MAGIC {
		return
	}
	if err := CheckLabel("a:b:c:s0"); SELinux() || !errs.Is(err, errs.Unsupported) {
		t.Errorf("no selinuxfs, yet SELinux %v, error %v", SELinux(), err)
	}
}
