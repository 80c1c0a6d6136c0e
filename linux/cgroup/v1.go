//go:build linux

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/osthread"
	"github.com/berth-containers/berth/internal/trace"
)

// createV1 makes the folder in each hierarchy. A cpuset starts without CPUs and memory nodes and takes no process until
// it has some ("no space left on device"), so it gets those of the group above.
func (g *Group) createV1() error {
	for _, c := range sortedKeys(g.state.Dirs) {
		dir := g.state.Dirs[c]
		err := trace.Step("mkdir", "a control group in the hierarchy of "+c, "dir", dir).
			Do(func() error { return os.MkdirAll(dir, 0o755) })
		if err != nil {
			return errs.Wrap("make control group", err)
		}
		if c == "cpuset" {
			if err := fillCpuset(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// fillCpuset copies cpuset.cpus and cpuset.mems down from the group above, wherever they are empty.
func fillCpuset(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return nil // above the root of the hierarchy
		}
		if strings.TrimSpace(string(b)) != "" {
			continue
		}
		parent := filepath.Dir(dir)
		if err := fillCpuset(parent); err != nil {
			return err
		}
		b, err = os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return errs.Wrap("read cpuset", err)
		}
		value := strings.TrimSpace(string(b))
		err = trace.Step("write", "a cpuset without CPUs takes no process", "file", filepath.Join(dir, file), "value", value).
			Do(func() error { return writeFile(filepath.Join(dir, file), value) })
		if err != nil {
			return errs.Wrap("fill cpuset", err)
		}
	}
	return nil
}

// Fork runs fn, which forks a process, on a thread in the group: with version 1 the thread enters the group itself, so
// that its child is born there. Fork returns when the thread is gone from the group again, because until then it counts
// as one of the group's processes, and would be frozen and killed with them.
func (g *Group) Fork(fn func() error) error {
	var tid int
	err := osthread.Run(func() error {
		tid = unix.Gettid()
		if err := g.enterThread(); err != nil {
			return err
		}
		return fn()
	})
	if !g.V2() {
		for unix.Tgkill(unix.Getpid(), tid, 0) == nil {
			time.Sleep(20 * time.Microsecond)
		}
	}
	return err
}

// enterThread moves the calling thread into the group. With version 2 it does nothing: see Dir.
func (g *Group) enterThread() error {
	if g.V2() {
		return nil
	}
	for _, c := range sortedKeys(g.state.Dirs) {
		if c == beside { // a child is cloned into it: see Dir
			continue
		}
		file := g.state.Dirs[c] + "/tasks"
		err := trace.Step("write", "the thread that forks enters the group itself, which costs a twentieth of being moved", "file", file, "value", "0").
			Do(func() error { return writeFile(file, "0") })
		if err != nil {
			return refused(setting{c, "tasks", "0"}, file, err)
		}
	}
	return nil
}

// JoinFiles opens the files that a process without threads writes "0" to, in order to enter the group; none with
// version 2.
func (g *Group) JoinFiles() ([]*os.File, error) {
	if g.V2() {
		return nil, nil
	}
	var out []*os.File
	for _, c := range sortedKeys(g.state.Dirs) {
		f, err := os.OpenFile(g.state.Dirs[c]+"/tasks", os.O_WRONLY, 0)
		if err != nil {
			for _, f := range out {
				f.Close()
			}
			return nil, errs.Wrap("open control group", err)
		}
		out = append(out, f)
	}
	return out, nil
}
