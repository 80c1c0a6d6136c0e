//go:build linux

package cgroup

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// OOMKills counts the processes that the kernel has killed in the group, and in those below it, for lack of memory.
func (g *Group) OOMKills() uint64 {
	if g.V2() {
		return g.table("memory", "memory.events")["oom_kill"] // of the whole subtree
	}
	return oomKillsBelow(g.dirOf("memory"))
}

func oomKillsBelow(dir string) uint64 {
	if dir == "" {
		return 0
	}
	g := &Group{state: State{Version: 1, Dirs: map[string]string{"memory": dir}}}
	n := g.table("memory", "memory.oom_control")["oom_kill"]
	for _, sub := range below(dir) {
		n += oomKillsBelow(sub)
	}
	return n
}

// OOMEvents is a descriptor that becomes readable when the group runs out of memory: an eventfd with version 1
// (Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control"), an inotify on memory.events with version 2. After
// it, OOMKills says how many.
func (g *Group) OOMEvents() (*os.File, error) {
	dir := g.dirOf("memory")
	if dir == "" {
		return nil, errs.New(errs.Unsupported, "watch for lack of memory", fmt.Errorf("this host does not have the controller memory"))
	}
	if g.V2() {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return nil, errs.Wrap("watch for lack of memory", err)
		}
		if _, err := unix.InotifyAddWatch(fd, dir+"/memory.events", unix.IN_MODIFY); err != nil {
			unix.Close(fd)
			return nil, errs.Wrap("watch memory.events", err)
		}
		return os.NewFile(uintptr(fd), "memory.events"), nil
	}
	control, err := os.Open(dir + "/memory.oom_control")
	if err != nil {
		return nil, errs.Wrap("watch for lack of memory", err)
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errs.Wrap("watch for lack of memory", err)
	}
	if err := writeFile(dir+"/cgroup.event_control", fmt.Sprintf("%d %d", fd, control.Fd())); err != nil {
		unix.Close(fd)
		return nil, errs.Wrap("watch memory.oom_control", err)
	}
	return os.NewFile(uintptr(fd), "memory.oom_control"), nil
}
