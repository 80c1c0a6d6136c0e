//go:build linux

package test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// rounds is how often the tests here do something; BERTH_TEST_ROUNDS asks for more.
func rounds(t *testing.T, usual int) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv("BERTH_TEST_ROUNDS")); err == nil {
		return n
	}
	if testing.Short() {
		return max(1, usual/10)
	}
	return usual
}

// A hundred at once want one name: one gets it, the others are told who has it, and leave nothing.
func TestOneNameForMany(t *testing.T) {
	root, before := newRoot(t), traces()
	if _, errOut, code := berth(t, root, "run", "--rm", "--net", "none", "/bin/true"); code != 0 {
		t.Fatal(errOut)
	}
	n := 100
	if testing.Short() {
		n = 10
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	won := 0
	for range n {
		wait.Go(func() {
			out, errOut, code := berth(t, root, "run", "-d", "--name", "one", "--net", "none", "-v", "/data", "/bin/sleep", "1000")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case code == 0 && len(strings.TrimSpace(out)) == 64:
				won++
			case code == 125 && strings.Contains(errOut, `The container name "/one" is already in use by container`):
			default:
				t.Errorf("%d, %q, %q", code, out, errOut)
			}
		})
	}
	wait.Wait()
	if out, _, _ := berth(t, root, "ps", "-a", "--format", "{{.Names}} {{.State}}"); won != 1 || out != "one running\n" {
		t.Errorf("%d have won; there are %q", won, out)
	}
	if _, errOut, code := berth(t, root, "rm", "-fv", "one"); code != 0 {
		t.Error(errOut)
	}
	leavesNothing(t, root, before)
}

// Whatever several users do to the same containers at the same time, each command ends, and each container is there
// as a whole or gone as a whole.
func TestStorm(t *testing.T) {
	root, before := newRoot(t), traces()
	var wait sync.WaitGroup
	for client := range 6 {
		wait.Go(func() {
			r := rand.New(rand.NewPCG(uint64(client), 7))
			for range rounds(t, 20) {
				name := fmt.Sprintf("c%d", 10+r.IntN(2))
				what := [][]string{
					{"run", "-d", "--name", name, "--net", "none", "--restart", "on-failure:2", "/bin/sleep", "1000"},
					{"create", "--name", name, "--net", "none", "/bin/sleep", "1000"},
					{"start", name}, {"stop", "-t", "0", name}, {"kill", name}, {"restart", "-t", "0", name}, {"rm", name}, {"rm", "-f", name},
					{"pause", name}, {"unpause", name}, {"exec", name, "/bin/true"}, {"ps", "-a"}, {"inspect", name}, {"rename", name, name + "x"}, {"rename", name + "x", name},
				}[r.IntN(15)]
				if out, ended := bounded(root, what...); !ended || strings.Contains(out, "goroutine ") {
					t.Errorf("%v: ended %v, %s", what, ended, out)
				}
			}
		})
	}
	wait.Wait()
	out, _, _ := berth(t, root, "ps", "-a", "--format", "{{.ID}} {{.State}}")
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		id, state, _ := strings.Cut(line, " ")
		if id == "" {
			continue
		}
		switch state {
		case "running", "paused", "exited", "created":
		default:
			t.Errorf("a container is %q", line)
		}
		if _, errOut, code := berth(t, root, "rm", "-f", id); code != 0 {
			t.Error(errOut)
		}
	}
	leavesNothing(t, root, before)
}

// bounded runs a command, which must end in time.
func bounded(root string, args ...string) (out string, ended bool) {
	cmd := exec.Command(filepath.Join(bin, "berth"), append([]string{"--root", root + "/root", "--state", root + "/state"}, args...)...)
	late := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
	b, _ := cmd.CombinedOutput()
	return string(b), late.Stop()
}

// Under load, processes of Berth are killed at random: no container is lost, its output goes on, the exit status is known,
// and nothing is left at the end.
func TestRandomKills(t *testing.T) {
	root, before := newRoot(t), traces()
	const workers = 3
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 11))
			for i := range rounds(t, 8) {
				name := fmt.Sprintf("w%dn%d", w, i)
				_, errOut, code := berth(t, root, "run", "-d", "--name", name, "--net", "none", "/bin/sh", "-c", "i=0; while ! test -e /end; do i=$((i+1)); echo $i; sleep 0.02; done; echo last; exit 9")
				if code != 0 {
					t.Error(errOut)
					continue
				}
				surviveKills(t, root, name, r)
			}
		})
	}
	wait.Wait()
	leavesNothing(t, root, before)
}

// awaitDeath waits until a killed process does nothing any more.
func awaitDeath(pid int) {
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// foreignStatusKnown reports whether this kernel tells how a process ended to one that is not its parent, after it was
// reaped (PIDFD_INFO_EXIT, Linux 6.15).
func foreignStatusKnown() (bool, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false, err
	}
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return major > 6 || major == 6 && minor >= 15, err
}

// surviveKills kills the monitor of a container some times, and commands that are on their way, and looks at what is left.
func surviveKills(t *testing.T, root, name string, r *rand.Rand) {
	pid, _, _ := berth(t, root, "inspect", "-f", "{{.State.Pid}} {{.Id}}", name)
	pid, id, _ := strings.Cut(strings.TrimSpace(pid), " ")
	kills := 1 + r.IntN(3)
	for range kills {
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		var monitor int
		if b, err := os.ReadFile(filepath.Join(root, "state/containers", id, "status.json")); err == nil {
			_, rest, _ := strings.Cut(string(b), `"monitor": `)
			_, _ = fmt.Sscan(rest, &monitor)
		}
		if monitor > 1 {
			_ = syscall.Kill(monitor, syscall.SIGKILL)
			awaitDeath(monitor) // until then it still is the one who is asked, and who asks hears that it has ended
		}
		// A command that is killed on its way, perhaps while it puts another monitor there.
		cmd := exec.Command(filepath.Join(bin, "berth"), "--root", root+"/root", "--state", root+"/state", "exec", name, "/bin/true")
		if cmd.Start() == nil {
			time.Sleep(time.Duration(r.IntN(12)) * time.Millisecond)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		now, errOut, _ := berth(t, root, "inspect", "-f", "{{.State.Status}} {{.State.Pid}}", name)
		if strings.TrimSpace(now) != "running "+pid {
			t.Errorf("%s: after its monitor was killed: %q, was running %s: %s", name, now, pid, errOut)
			return
		}
	}
	if _, errOut, code := berth(t, root, "exec", name, "touch", "/end"); code != 0 {
		t.Errorf("%s: %s", name, errOut)
		return // it does not end
	}
	known, err := foreignStatusKnown()
	if err != nil {
		t.Error(err)
	}
	if out, errOut, _ := berth(t, root, "wait", name); out != "9\n" && (known || out != "255\n") {
		t.Errorf("%s: exit status %q, %s", name, out, errOut)
	}
	out, _, _ := berth(t, root, "logs", name)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if lines[len(lines)-1] != "last" {
		t.Errorf("%s: the log ends with %q", name, lines[len(lines)-1])
	}
	next, missing := 1, 0
	for _, line := range lines[:len(lines)-1] {
		n, err := strconv.Atoi(line)
		if err != nil || n < next {
			t.Errorf("%s: line %q where %d was to come", name, line, next)
			return
		}
		missing += n - next
		next = n + 1
	}
	if missing > kills { // what a monitor has in its hands when it is killed
		t.Errorf("%s: %d lines are missing after %d kills", name, missing, kills)
	}
	if _, errOut, code := berth(t, root, "rm", "-f", name); code != 0 {
		t.Error(errOut)
	}
}
