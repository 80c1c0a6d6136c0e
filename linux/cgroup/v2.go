//go:build linux

package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// createV2 makes the folder and those above it, and hands the controllers down to it (Documentation/admin-guide/
// cgroup-v2.rst, "Enabling and Disabling").
func (g *Group) createV2() error {
	dir := g.state.Dirs[""]
	at := Mountpoint
	for _, name := range strings.Split(strings.TrimPrefix(g.state.Path, "/"), "/") {
		enableControllers(at)
		at = filepath.Join(at, name)
		if at == dir {
			break
		}
		if err := os.Mkdir(at, 0o755); err != nil && !os.IsExist(err) {
			return errs.Wrap("make control group", err)
		}
	}
	err := trace.Step("mkdir", "a control group: what is in it is counted and limited together", "dir", dir).
		Do(func() error { return os.MkdirAll(dir, 0o755) })
	return errs.Wrap("make control group", err)
}

// enableControllers hands every controller of a group down to those below. One that cannot be (its processes are in the
// group itself) is told when a limit needs it.
func enableControllers(dir string) {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return
	}
	on, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	var missing []string
	for _, c := range strings.Fields(string(have)) {
		if !contains(strings.Fields(string(on)), c) {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 {
		return
	}
	file := filepath.Join(dir, "cgroup.subtree_control")
	_ = trace.Step("write", "the controllers work in the groups below too", "file", file, "value", strings.Join(missing, " ")).Do(func() error {
		if err := writeFile(file, strings.Join(missing, " ")); err == nil {
			return nil
		}
		var last error
		for _, m := range missing { // all or nothing: one that is refused must not keep the others
			if err := writeFile(file, m); err != nil {
				last = err
			}
		}
		return last
	})
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Dir opens the group's folder for CLONE_INTO_CGROUP (clone3(2), Linux 5.7), on a hybrid host that of a scope of systemd in
// the hierarchy of version 2; nil with version 1.
func (g *Group) Dir() (*os.File, error) {
	dir := g.state.Dirs[beside]
	if g.V2() {
		dir = g.state.Dirs[""]
	}
	if dir == "" {
		return nil, nil
	}
	if g.dir == nil {
		f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, errs.Wrap("open control group", err)
		}
		g.dir = f
	}
	return g.dir, nil
}

// Delegate gives the group's folder to a user, as far as the kernel lets a user manage a group of its own
// (cgroup-v2.rst, "Delegation"); with version 1 nothing can be given away safely, and it does nothing.
func (g *Group) Delegate(uid, gid int) error {
	if !g.V2() {
		return nil
	}
	b, err := os.ReadFile("/sys/kernel/cgroup/delegate")
	if err != nil {
		b = []byte("cgroup.procs\ncgroup.threads\ncgroup.subtree_control\nmemory.oom.group\n")
	}
	dir := g.state.Dirs[""]
	return trace.Step("chown", "the container's root may make groups below its own", "dir", dir, "uid", uid).Do(func() error {
		if err := os.Lchown(dir, uid, gid); err != nil {
			return errs.Wrap("delegate control group", err)
		}
		for _, f := range strings.Fields(string(b)) {
			if err := os.Lchown(filepath.Join(dir, f), uid, gid); err != nil && !os.IsNotExist(err) {
				return errs.Wrap(fmt.Sprintf("delegate %s", f), err)
			}
		}
		return nil
	})
}
