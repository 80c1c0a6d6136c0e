//go:build linux

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// Whatever process dies at whichever step of a start, the next command cleans up: no control group, mount, process or
// name is left after rm.
func TestKilledAtEveryStep(t *testing.T) {
	root, before := newRoot(t), traces()
	if _, errOut, code := berth(t, root, "run", "--rm", "--net", "none", "/bin/true"); code != 0 {
		t.Fatal(errOut)
	}
	stride := 1
	if testing.Short() {
		stride = 20
	}
	for _, process := range []string{"berth", "monitor", "init"} {
		most := stepsOf(t, root, process)
		if process == "monitor" {
			most += 40 // those of the end are not shown
		}
		for n := 1; n <= most; n += stride {
			t.Setenv("BERTH_FAULT", fmt.Sprintf("%s:%d", process, n))
			_, _, _ = berth(t, root, "run", "--rm", "--name", "victim", "--net", "none", "/bin/true")
			t.Setenv("BERTH_FAULT", "")
			_, errOut, code := berth(t, root, "run", "--rm", "--name", "next", "--net", "none", "/bin/true")
			if code != 0 {
				t.Errorf("after %s died at step %d: %s", process, n, errOut)
			}
			_, _, _ = berth(t, root, "ps", "-a")
			_, _, _ = berth(t, root, "rm", "-f", "victim")
			if left := append(newTraces(before), files(t, root)...); len(left) > 0 {
				time.Sleep(100 * time.Millisecond) // what is just ending
				if left = append(newTraces(before), files(t, root)...); len(left) > 0 {
					t.Fatalf("after %s died at step %d there are left:\n%s", process, n, strings.Join(left, "\n"))
				}
			}
		}
	}
}
