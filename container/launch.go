//go:build linux

package container

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/linux/spawn"
)

// launch makes a process by a list of calls, in namespaces that no program with threads can enter or make others in.
type launch struct {
	part      string   // of this program: init, exec
	program   *os.File // the sealed copy
	files     []int    // its descriptors from 0 on
	preserved int
	group     *cgroup.Group

	ours, theirs []opened // namespaces that a thread of ours may enter, whose children are born there, and the others
	fresh        uintptr  // CLONE_NEW*, made when theirs are entered; 0: none
	session      bool     // of its own
}

// opened is an open namespace.
type opened struct {
	kind namespace.Kind
	file *os.File
}

func closeAll(list []opened) {
	for _, n := range list {
		n.file.Close()
	}
}

// alone reports whether only a process without threads may enter a kind of namespace (setns(2)), or, for cgroup, whether
// the clone into the control group would be outside of it.
func alone(k namespace.Kind) bool {
	return k.Flag&(unix.CLONE_NEWUSER|unix.CLONE_NEWNS|unix.CLONE_NEWTIME|unix.CLONE_NEWCGROUP) != 0
}

func (l *launch) start(why string) (pid int, pidfd *os.File, err error) {
	// The process shares our memory for a moment, while it is where others are root already (CVE-2016-9962).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, nil, errs.Wrap("become untraceable", err)
	}
	// No descriptor may lie where one that comes later is put.
	high, err := above(append(l.files, int(l.program.Fd())), 4+len(l.files))
	defer closeFDs(high)
	if err != nil {
		return 0, nil, err
	}
	list, err := l.calls(high)
	if err != nil {
		return 0, nil, errs.Wrap("clone process", err)
	}
	dir, err := l.group.Dir()
	if err != nil {
		return 0, nil, err
	}
	err = l.group.Fork(func() error {
		for _, n := range l.ours {
			if err := namespace.Enter(n.file, n.kind); err != nil {
				return err
			}
		}
		return trace.Step("clone3+setns+execveat", why, "flags", "CLONE_VFORK,CLONE_PIDFD", "enters", kinds(l.theirs), "cgroup", l.group.Path()).
			Do(func() (err error) {
				pid, pidfd, err = list.Start(dir)
				return err
			})
	})
	return pid, pidfd, err
}

func (l *launch) calls(high []int) (*spawn.Program, error) {
	list := &spawn.Program{}
	for _, n := range l.theirs {
		list.Setns(int(n.file.Fd()), n.kind.Flag, n.kind.Name)
		if n.kind.Name == "user" {
			list.BecomeRoot()
		}
	}
	if l.fresh != 0 {
		list.Clone(l.fresh)
	}
	if l.session {
		list.Setsid()
	}
	last := len(high) - 1
	list.Files(high[:last])
	return list, list.Exec(high[last], []string{"berth-runtime", l.part}, initEnvironment(l.preserved))
}

func kinds(list []opened) []string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = n.kind.Name
	}
	return out
}

// above duplicates descriptors to numbers that are not below a bound.
func above(fds []int, bound int) (out []int, err error) {
	for _, fd := range fds {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, bound)
		if err != nil {
			return out, errs.Wrap("keep descriptor", err)
		}
		out = append(out, n)
	}
	return out, nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
