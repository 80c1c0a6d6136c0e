//go:build linux

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// files lists what lies in the engine's folders of containers.
func files(t *testing.T, root string) []string {
	t.Helper()
	var out []string
	for _, dir := range []string{"root/containers", "root/names", "root/volumes", "state/containers", "state/runtime", "state/netns"} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, dir+"/"+e.Name())
		}
	}
	return out
}

// leavesNothing looks for what containers have left, after a moment for what is just ending.
func leavesNothing(t *testing.T, root string, before map[string]bool) {
	t.Helper()
	var left []string
	for range 100 {
		left = append(newTraces(before), files(t, root)...)
		if len(left) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	slices.Sort(left)
	t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
}

// Many containers at once, of several command lines: each has its own output and status, and nothing is left.
func TestManyContainersAtOnce(t *testing.T) {
	root, before := newRoot(t), traces()
	if _, errOut, code := berth(t, root, "run", "--rm", "--net", "none", "/bin/true"); code != 0 {
		t.Fatal(errOut)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	n := 200
	if testing.Short() {
		n = 16
	}
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out, errOut, code := berth(t, root, "run", "--rm", "--net", "none", "/bin/sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%50))
			if out != fmt.Sprintf("%d\n", i) || code != i%50 {
				t.Errorf("container %d: %q, %q, %d", i, out, errOut, code)
			}
		})
	}
	wg.Wait()
	leavesNothing(t, root, before)
}

// A thousand containers one after the other leave nothing either.
func TestManyContainersInSequence(t *testing.T) {
	root, before := newRoot(t), traces()
	n := 1000
	if testing.Short() {
		n = 10
	}
	for range n {
		if _, errOut, code := berth(t, root, "run", "--rm", "--net", "none", "/bin/true"); code != 0 {
			t.Fatal(errOut)
		}
	}
	leavesNothing(t, root, before)
}

// stepsOf counts the steps that a process makes in a start.
func stepsOf(t *testing.T, root, process string) int {
	t.Helper()
	_, errOut, code := berth(t, root, "run", "--rm", "--net", "none", "--explain=json", "/bin/true")
	n := strings.Count(errOut, `"process":"`+process+`"`)
	if code != 0 || n == 0 {
		t.Fatalf("steps of %s: %d, %s", process, n, errOut)
	}
	return n
}

// everyStep runs a container again and again, and each time one of Berth's processes dies at another of its steps, or
// that step fails. What the run has said is given to a function; after it the next command works and, with rm, nothing is
// left: no control group, mount, process or name.
func everyStep(t *testing.T, stride int, fault func(process string, n int) string, look func(fault, said string, code int)) {
	root, before := newRoot(t), traces()
	if _, errOut, code := berth(t, root, "run", "--rm", "--net", "none", "/bin/true"); code != 0 {
		t.Fatal(errOut)
	}
	if testing.Short() {
		stride = 20
	}
	for _, process := range []string{"berth", "monitor", "init"} {
		most := stepsOf(t, root, process)
		if process == "monitor" {
			most += 40 // those of the end are not shown
		}
		for n := 1; n <= most; n += stride {
			injected := fault(process, n)
			t.Setenv("BERTH_FAULT", injected)
			out, errOut, code := berth(t, root, "run", "--rm", "--name", "victim", "--net", "none", "/bin/true")
			t.Setenv("BERTH_FAULT", "")
			look(injected, out+errOut, code)
			_, errOut, code = berth(t, root, "run", "--rm", "--name", "next", "--net", "none", "/bin/true")
			if code != 0 {
				t.Errorf("after the fault %s: %s", injected, errOut)
			}
			_, _, _ = berth(t, root, "ps", "-a")
			_, _, _ = berth(t, root, "rm", "-f", "victim")
			if left := append(newTraces(before), files(t, root)...); len(left) > 0 {
				time.Sleep(100 * time.Millisecond) // what is just ending
				if left = append(newTraces(before), files(t, root)...); len(left) > 0 {
					t.Fatalf("after the fault %s there are left:\n%s", injected, strings.Join(left, "\n"))
				}
			}
		}
	}
}

// Whatever process dies at whichever step of a start, the next command cleans up.
func TestKilledAtEveryStep(t *testing.T) {
	everyStep(t, 1, func(process string, n int) string { return fmt.Sprintf("%s:%d", process, n) }, func(string, string, int) {})
}

// Whichever step of a start fails because a resource is exhausted or broken, that is told in a line, or the container does
// without what it was for.
func TestErrorAtEveryStep(t *testing.T) {
	errnos := []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EMFILE, syscall.ENOMEM}
	failed, stride := 0, 3
	if os.Getenv("BERTH_TEST_ROUNDS") != "" { // more than usual
		stride = 1
	}
	everyStep(t, stride, func(process string, n int) string {
		return fmt.Sprintf("%s:%d:%d", process, n, errnos[n%len(errnos)])
	}, func(fault, said string, code int) {
		if strings.Contains(said, "goroutine ") || code != 0 && code < 125 {
			t.Errorf("with the fault %s the exit status is %d: %s", fault, code, said)
		}
		if code == 0 {
			return
		}
		failed++
		number, _ := strconv.Atoi(fault[strings.LastIndexByte(fault, ':')+1:])
		if !strings.HasPrefix(said, "berth: ") || !strings.Contains(said, syscall.Errno(number).Error()) {
			t.Errorf("with the fault %s is said: %s", fault, said)
		}
	})
	if failed == 0 {
		t.Error("no step has failed")
	}
}
