//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/listing"
	"github.com/berth-containers/berth/internal/trace"
)

// Create makes the group. One that is there already is taken as it is.
func (g *Group) Create() error {
	if g.V2() {
		return g.createV2()
	}
	return g.createV1()
}

// Add moves a process into the group. It is the slow way: see the package comment.
func (g *Group) Add(pid int) error {
	for _, c := range sortedKeys(g.state.Dirs) {
		file := g.state.Dirs[c] + "/cgroup.procs"
		err := trace.Step("write", "the process is counted with the group from here on", "file", file, "value", pid).
			Do(func() error { return writeFile(file, strconv.Itoa(pid)) })
		if err != nil {
			return refused(setting{c, "cgroup.procs", strconv.Itoa(pid)}, file, err)
		}
	}
	return nil
}

// Pids lists the processes in the group and in those below it.
func (g *Group) Pids() ([]int, error) {
	pids, err := pidsBelow(g.any())
	return pids, errs.Wrap("list processes of control group", err)
}

func pidsBelow(dir string) ([]int, error) {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) || isErrno(err, unix.ENODEV) {
		return nil, nil
	}
	// A threaded group of version 2 answers EOPNOTSUPP; its processes are listed above it.
	if err != nil && !isErrno(err, unix.EOPNOTSUPP) {
		return nil, err
	}
	var out []int
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
			out = append(out, pid)
		}
	}
	for _, sub := range below(dir) {
		more, err := pidsBelow(sub)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// below lists the groups directly below one.
func below(dir string) []string {
	es, err := listing.Folder(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range es {
		if e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out
}

// Kill sends SIGKILL to everything in the group and in those below it, and waits until nothing is left, for some
// seconds at most. With version 2 the kernel does it at once (cgroup.kill, Linux 5.14); before, the group is frozen so
// that nothing can fork away while its processes are signalled.
func (g *Group) Kill() error {
	if g.V2() {
		file := g.state.Dirs[""] + "/cgroup.kill"
		err := trace.Step("write", "everything in the group ends at once", "file", file, "value", "1").
			Do(func() error { return writeFile(file, "1") })
		if isErrno(err, unix.ENOENT) && !g.Exists() {
			return nil
		}
		if err == nil {
			_ = g.Thaw()
			return g.waitEmpty(func() {})
		}
	}
	return g.waitEmpty(func() {
		pids, err := g.Pids()
		if err != nil || len(pids) == 0 {
			return
		}
		_ = trace.Step("kill", "no process of the container is left", "signal", "SIGKILL", "processes", len(pids)).Do(func() error {
			_ = g.Freeze()
			if all, err := g.Pids(); err == nil {
				for _, pid := range all {
					if pid != os.Getpid() { // a thread of ours that is just leaving
						_ = unix.Kill(pid, unix.SIGKILL)
					}
				}
			}
			return g.Thaw() // a frozen process dies when it thaws
		})
	})
}

func (g *Group) waitEmpty(again func()) error {
	deadline := time.Now().Add(10 * time.Second)
	for pause := 500 * time.Microsecond; ; pause = min(2*pause, 50*time.Millisecond) {
		again()
		pids, err := g.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return errs.New(errs.Internal, "kill control group "+g.Path(), fmt.Errorf("processes %v do not end", pids))
		}
		time.Sleep(pause)
	}
}

// Signal sends a signal to every process in the group and in those below it.
func (g *Group) Signal(sig unix.Signal) error {
	pids, err := g.Pids()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			return errs.Wrap(fmt.Sprintf("signal process %d", pid), err)
		}
	}
	return nil
}

// Delete removes the group and those below it. It must have no process left; one that is just ending is waited for.
func (g *Group) Delete() error {
	if g.dir != nil {
		g.dir.Close()
		g.dir = nil
	}
	if g.state.Unit != nil {
		if err := g.stopUnit(); err != nil {
			return err
		}
	}
	for _, c := range sortedKeys(g.state.Dirs) {
		dir := g.state.Dirs[c]
		if _, err := os.Lstat(dir); err != nil {
			continue
		}
		err := trace.Step("rmdir", "the control group goes with its container", "dir", dir).Do(func() error { return removeTree(dir) })
		if err != nil {
			return errs.Wrap("remove control group", err)
		}
	}
	return nil
}

func removeTree(dir string) error {
	deadline := time.Now().Add(5 * time.Second)
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		err := unix.Rmdir(dir)
		switch {
		case err == nil || err == unix.ENOENT:
			return nil
		case err == unix.EINTR:
			continue
		case err != unix.EBUSY && err != unix.ENOTEMPTY:
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		for _, sub := range below(dir) {
			if err := removeTree(sub); err != nil {
				return err
			}
		}
		if time.Now().After(deadline) {
			return &os.PathError{Op: "rmdir", Path: dir, Err: err}
		}
		time.Sleep(pause)
	}
}
