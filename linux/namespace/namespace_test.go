//go:build linux

package namespace

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/osthread"
	"github.com/berth-containers/berth/internal/testutil"
)

func kind(t *testing.T, name string) Kind {
	t.Helper()
	k, ok := ByName(name)
	if !ok {
		t.Fatalf("no kind %s", name)
	}
	return k
}

func TestKindsAreTheKernels(t *testing.T) {
	for _, k := range Kinds {
		if !k.Supported() {
			t.Logf("this kernel has no %s namespaces", k.Name)
			continue
		}
		f, err := Open(0, k)
		if err != nil {
			t.Error(err)
			continue
		}
		f.Close()
	}
	if k, ok := ByName("bogus"); ok || k.Supported() && k.Name != "" {
		t.Error("bogus is a kind")
	}
}

func TestOpenRefusesWhatIsNoNamespaceOfTheKind(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]errs.Kind{
		"/proc/self/ns/uts": errs.Invalid, "/dev/null": errs.Invalid, "/proc/self/status": errs.Invalid, fifo: errs.Invalid,
		"/nonexistent": errs.NotFound,
	} {
		if _, err := OpenPath(path, kind(t, "network")); !errs.Is(err, want) {
			t.Errorf("%s: %v, want an error of kind %v", path, err, want)
		}
	}
	f, err := Open(os.Getpid(), kind(t, "network"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// name is the namespace that the calling thread is in.
func name(t *testing.T, k Kind) string {
	t.Helper()
	s, err := os.Readlink("/proc/thread-self/ns/" + k.Proc)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEnterMovesTheThreadAlone(t *testing.T) {
	for _, which := range []string{"uts", "network", "ipc", "mount", "cgroup"} {
		k := kind(t, which)
		outside := name(t, k)
		testutil.InNamespaces(t, int(k.Flag), func() {
			inside := name(t, k)
			f, err := Open(0, k)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			err = osthread.Run(func() error {
				if now := name(t, k); now != outside {
					t.Errorf("a new thread begins in %s, want %s", now, outside)
				}
				err := Enter(f, k)
				if now := name(t, k); now != inside {
					t.Errorf("entered %s, want %s", now, inside)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		if now := name(t, k); now != outside {
			t.Errorf("the process moved to %s with its thread", now)
		}
	}
	if !Same(os.Getpid(), os.Getppid(), kind(t, "uts")) {
		t.Error("this process and its parent are said to be apart")
	}
	err := osthread.Run(func() error {
		f, err := Open(0, kind(t, "user"))
		if err != nil {
			return err
		}
		defer f.Close()
		return Enter(f, kind(t, "user"))
	})
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("a user namespace was entered by one thread of many: %v", err)
	}
}

func TestUserNamespaceHasItsMaps(t *testing.T) {
	ns, err := UserNamespace([]IDMap{{0, 100000, 65536}}, []IDMap{{0, 200000, 1000}, {1000, 300000, 10}})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := check(ns, kind(t, "user")); err != nil {
		t.Error(err)
	}
	if owner, err := unix.IoctlGetInt(int(ns.Fd()), unix.NS_GET_OWNER_UID); err != nil || owner != os.Geteuid() {
		t.Errorf("owned by %d, %v", owner, err)
	}
	if _, err := UserNamespace([]IDMap{{0, 1, 1}}, nil); !errs.Is(err, errs.Invalid) {
		t.Errorf("without a map of groups: %v", err)
	}
	// No child may be left, as a zombie or otherwise.
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil); err != unix.ECHILD {
		t.Errorf("a child is left: %v", err)
	}
}

func TestMaps(t *testing.T) {
	good := []IDMap{{0, 1000, 1}, {1, 100000, 10}}
	if err := CheckMaps("user", good); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]IDMap{
		nil, {{0, 0, 0}}, {{0, 0, 10}, {5, 100, 10}}, {{0, 0, 10}, {10, 5, 10}}, {{4294967295, 0, 1}}, {{0, 4294967295, 1}},
		make([]IDMap, 341),
	} {
		if err := CheckMaps("user", bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	for id, want := range map[uint32]uint32{0: 1000, 1: 100000, 10: 100009} {
		if got, ok := ToHost(good, id); !ok || got != want {
			t.Errorf("%d is %d", id, got)
		}
	}
	if _, ok := ToHost(good, 11); ok {
		t.Error("11 is mapped")
	}
}

func TestSubIDs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	lines := []string{"# x", "me:100000:65536", "other:1:1", "1000:300000:10", "me:x:y", "me:5", "me:4294967290:100", "me:7:0", " me:1:2 "}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readSubIDs(file, []string{"me", "1000"})
	if err != nil || len(got) != 3 || got[0] != (IDMap{0, 100000, 65536}) || got[1] != (IDMap{65536, 300000, 10}) || got[2] != (IDMap{65546, 1, 2}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := readSubIDs(file+"-none", []string{"me"}); got != nil || err != nil {
		t.Errorf("without a file: %v, %v", got, err)
	}
	if _, err := readSubIDs(filepath.Dir(file), []string{"me"}); err == nil {
		t.Error("a folder was read")
	}
	if _, _, err := SubIDs("nobody-has-this-name"); err != nil {
		t.Error(err)
	}
}

// Against the plain meaning, for all sizes and many pools of few ids.
func TestFreeRange(t *testing.T) {
	for _, pool := range [][]IDMap{nil, {{0, 3, 9}}, {{0, 10, 4}, {4, 2, 8}}, {{0, 2, 3}, {0, 7, 5}}, {{0, 2, 6}, {0, 4, 6}}} {
		for usedBits := range 1 << 10 {
			var used []IDMap
			for i := range uint32(10) {
				if usedBits>>i&1 == 1 {
					used = append(used, IDMap{0, i + 2, 1})
				}
			}
			free := func(id uint32) bool {
				in := func(maps []IDMap) bool {
					for _, m := range maps {
						if id >= m.Host && id-m.Host < m.Size {
							return true
						}
					}
					return false
				}
				return in(pool) && !in(used)
			}
			for size := uint32(1); size < 6; size++ {
				want, wantOK := uint32(0), false
				for first := uint32(0); first < 20 && !wantOK; first++ {
					want, wantOK = first, true
					for id := first; id < first+size; id++ {
						wantOK = wantOK && free(id)
					}
				}
				if got, ok := FreeRange(pool, used, size); ok != wantOK || ok && got != want {
					t.Fatalf("%d ids of %v besides %v: %d, %v; want %d, %v", size, pool, used, got, ok, want, wantOK)
				}
			}
		}
	}
	const k64 = 65536
	if got, ok := FreeRange([]IDMap{{0, 4294967295 - k64, k64}}, nil, k64); !ok || got != 4294967295-k64 {
		t.Errorf("the last ids there are: %d, %v", got, ok)
	}
	if _, ok := FreeRange([]IDMap{{0, 0, 10}}, nil, 0); ok {
		t.Error("no ids are a range")
	}
}
