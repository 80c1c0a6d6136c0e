//go:build linux

package namespace

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// The main thread stands for the whole process in /proc/self; no test's goroutine may get it.
func init() { runtime.LockOSThread() }

func TestOpenRefusesWhatIsNoNamespaceOfTheKind(t *testing.T) {
	net, _ := ByName("network")
	for _, path := range []string{"/proc/self/ns/uts", "/dev/null", "/nonexistent"} {
		if f, err := OpenPath(path, net); err == nil {
			f.Close()
			t.Errorf("%s was opened as a network namespace", path)
		}
	}
	f, err := Open(os.Getpid(), net)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if k, ok := ByName("bogus"); ok || k.Supported() && k.Name != "" {
		t.Error("bogus is a kind")
	}
}

func TestEnter(t *testing.T) {
	uts, _ := ByName("uts")
	done := make(chan error, 2)
	made := make(chan *os.File)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWUTS)
		f, e := os.Open("/proc/thread-self/ns/uts")
		if err == nil {
			err = e
		}
		made <- f
		done <- err
	}()
	f := <-made
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		runtime.LockOSThread()
		err := Enter(f, uts)
		if now, _ := os.Readlink("/proc/thread-self/ns/uts"); err == nil && now != want {
			t.Errorf("in %s, want %s", now, want)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !Same(os.Getpid(), os.Getppid(), uts) {
		t.Error("the process moved with its thread")
	}
}

func TestUserNamespaceHasItsMaps(t *testing.T) {
	ns, err := UserNamespace([]IDMap{{0, 100000, 65536}}, []IDMap{{0, 200000, 65536}})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	user, _ := ByName("user")
	if kind, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_NSTYPE); err != nil || uintptr(kind) != user.Flag {
		t.Errorf("kind %x, %v", kind, err)
	}
}

func TestMaps(t *testing.T) {
	good := []IDMap{{0, 1000, 1}, {1, 100000, 10}}
	if err := CheckMaps("user", good); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]IDMap{nil, {{0, 0, 0}}, {{0, 0, 10}, {5, 100, 10}}, {{0, 0, 10}, {10, 5, 10}}, {{4294967295, 0, 2}}, make([]IDMap, 341)} {
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
	got, err := parseSubIDs(strings.NewReader("# x\nme:100000:65536\nother:1:1\n1000:300000:10\nme:x:y\nme:5\n"), []string{"me", "1000"})
	if err != nil || len(got) != 2 || got[0] != (IDMap{0, 100000, 65536}) || got[1] != (IDMap{65536, 300000, 10}) {
		t.Errorf("%v, %v", got, err)
	}
}
