//go:build linux

package spawn

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/linux/namespace"
)

// open opens a file at a descriptor above those that the program gets.
func open(t *testing.T, name string, flags int) int {
	t.Helper()
	f, err := os.OpenFile(name, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// shell runs a script and returns its output and status.
func shell(t *testing.T, script string, before func(p *Program)) (string, unix.WaitStatus) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 10)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	p := &Program{}
	if before != nil {
		before(p)
	}
	null := open(t, "/dev/null", os.O_RDWR)
	p.Files([]int{null, out, null})
	if err := p.Exec(open(t, "/bin/sh", os.O_RDONLY), []string{"sh", "-c", script}, []string{"A=b c"}); err != nil {
		t.Fatal(err)
	}
	pid, pidfd, err := p.Start(nil)
	unix.Close(out)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	return string(b), status
}

func TestProgram(t *testing.T) {
	out, status := shell(t, `echo "$A"; grep SigBlk /proc/self/status; exit 3`, nil)
	if status.ExitStatus() != 3 || !strings.HasPrefix(out, "b c\n") || !strings.Contains(out, "SigBlk:\t0000000000000000") {
		t.Errorf("%q, status %d", out, status.ExitStatus())
	}
}

// A user namespace is what no Go program can enter by itself.
func TestEntersUserNamespace(t *testing.T) {
	fd := userNamespace(t)
	out, _ := shell(t, "id -u; cat /proc/self/uid_map", func(p *Program) {
		p.Setns(fd, unix.CLONE_NEWUSER, "user")
		p.BecomeRoot()
	})
	if got := strings.Fields(out); len(got) != 4 || got[0] != "0" || got[2] != "100000" {
		t.Errorf("inside: %q", out)
	}
}

// New namespaces belong to a user namespace that is entered first; among them the pid namespace, where only children are.
func TestSecondProcessIsInNewNamespacesOfAGivenOne(t *testing.T) {
	fd := userNamespace(t)
	out, status := shell(t, "echo $$; id -u; hostname inside && hostname; exit 5", func(p *Program) {
		p.Setns(fd, unix.CLONE_NEWUSER, "user")
		p.BecomeRoot()
		p.Clone(unix.CLONE_NEWPID | unix.CLONE_NEWUTS)
		p.Setsid()
	})
	if out != "1\n0\ninside\n" || status.ExitStatus() != 5 {
		t.Errorf("inside: %q, status %v", out, status.ExitStatus())
	}
}

func TestFailureOfSecondProcess(t *testing.T) {
	fd := userNamespace(t)
	p := &Program{}
	p.Setns(fd, unix.CLONE_NEWUSER, "user")
	p.BecomeRoot()
	p.Clone(unix.CLONE_NEWPID)
	p.Setns(-1, unix.CLONE_NEWNET, "network")
	if err := p.Exec(open(t, "/bin/sh", os.O_RDONLY), []string{"sh"}, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Start(nil); !errors.Is(err, unix.EBADF) || !strings.Contains(err.Error(), "setns network") {
		t.Errorf("error: %v", err)
	}
}

func TestReadIDs(t *testing.T) {
	fd, err := unix.Dup(userNamespace(t))
	if err != nil {
		t.Fatal(err)
	}
	ns := os.NewFile(uintptr(fd), "user namespace")
	defer ns.Close()
	ids, err := ReadIDs(ns)
	want := []namespace.IDMap{{Container: 0, Host: 100000, Size: 10}}
	if err != nil || !slices.Equal(ids.Users, want) || !slices.Equal(ids.Groups, want) || !ids.SetGroups {
		t.Errorf("%+v, %v", ids, err)
	}
}

// Whoever shares our memory cannot enter a time namespace.
func TestEntersTimeNamespace(t *testing.T) {
	cmd := exec.Command("unshare", "-T", "sh", "-c", "readlink /proc/self/ns/time; read x")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	want, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Skipf("no time namespaces: %v", err)
	}
	fd := open(t, fmt.Sprintf("/proc/%d/ns/time", cmd.Process.Pid), os.O_RDONLY)
	got, _ := shell(t, "readlink /proc/self/ns/time", func(p *Program) { p.Setns(fd, unix.CLONE_NEWTIME, "time") })
	if got != want {
		t.Errorf("in %q, want %q", got, want)
	}
}

func TestFailedCallIsNamed(t *testing.T) {
	p := &Program{}
	p.Setsid()
	p.Setns(-1, unix.CLONE_NEWNET, "network")
	if err := p.Exec(open(t, "/bin/sh", os.O_RDONLY), []string{"sh"}, nil); err != nil {
		t.Fatal(err)
	}
	_, _, err := p.Start(nil)
	if !errors.Is(err, unix.EBADF) || !strings.Contains(err.Error(), "setns network") {
		t.Errorf("error: %v", err)
	}
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a child is left: %v", err)
	}
}

// Many threads spawn while the garbage collector runs all the time: a process that touched Go's memory would damage it.
func TestManyAtOnce(t *testing.T) {
	sh := open(t, "/bin/true", os.O_RDONLY)
	stop := make(chan struct{})
	var collecting, spawning sync.WaitGroup
	collecting.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	for range 4 {
		spawning.Go(func() {
			for range 150 {
				p := &Program{}
				if err := p.Exec(sh, []string{"true", strings.Repeat("x", 1000)}, nil); err != nil {
					t.Error(err)
					return
				}
				pid, pidfd, err := p.Start(nil)
				if err != nil {
					t.Error(err)
					return
				}
				pidfd.Close()
				var status unix.WaitStatus
				if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || status.ExitStatus() != 0 {
					t.Errorf("%v, status %v", err, status)
				}
			}
		})
	}
	spawning.Wait()
	close(stop)
	collecting.Wait()
}

func BenchmarkStart(b *testing.B) {
	f, err := os.Open("/bin/true")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for b.Loop() {
		p := &Program{}
		if err := p.Exec(int(f.Fd()), []string{"true"}, nil); err != nil {
			b.Fatal(err)
		}
		pid, pidfd, err := p.Start(nil)
		if err != nil {
			b.Fatal(err)
		}
		pidfd.Close()
		_, _ = unix.Wait4(pid, nil, 0, nil)
	}
}

// userNamespace makes one whose ids 0 to 9 are 100000 to 100009 outside.
func userNamespace(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("/bin/cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: []syscall.SysProcIDMap{{HostID: 100000, Size: 10}}, GidMappings: []syscall.SysProcIDMap{{HostID: 100000, Size: 10}}, GidMappingsEnableSetgroups: true}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Skipf("no user namespaces: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return open(t, fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid), os.O_RDONLY)
}

// A process that holds a place has nothing else, and ends when it is told to.
func TestHold(t *testing.T) {
	pid, end, err := Hold()
	if err != nil {
		t.Fatal(err)
	}
	dir := fmt.Sprintf("/proc/%d", pid)
	for {
		if files, _ := os.ReadDir(dir + "/fd"); len(files) == 1 { // its first calls
			break
		}
		if _, err := os.Stat(dir); err != nil {
			t.Fatal("it has ended")
		}
		runtime.Gosched()
	}
	end()
	if _, err := os.Stat(dir); err == nil {
		t.Error("it is still there")
	}
}
