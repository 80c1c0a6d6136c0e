//go:build linux

package namespace

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Kind is one kind of namespace.
type Kind struct {
	Name string  // the OCI's word: "mount", "network"
	Proc string  // the file in /proc/PID/ns: "mnt", "net"
	Flag uintptr // CLONE_NEW*
	Why  string  // what a container gains by its own
}

// Kinds are all kinds, in the order in which they are entered: the user namespace first, because it gives the
// capabilities to enter the others, and the mount namespace last, because paths mean something else behind it.
var Kinds = [...]Kind{
	{"user", "user", unix.CLONE_NEWUSER, "root inside is nobody outside"},
	{"pid", "pid", unix.CLONE_NEWPID, "the first process is number 1 and sees no others"},
	{"network", "net", unix.CLONE_NEWNET, "links, addresses, ports and firewall of its own"},
	{"ipc", "ipc", unix.CLONE_NEWIPC, "message queues and shared memory of its own"},
	{"uts", "uts", unix.CLONE_NEWUTS, "a host name of its own"},
	{"cgroup", "cgroup", unix.CLONE_NEWCGROUP, "its control group looks like the root of all"},
	{"time", "time", unix.CLONE_NEWTIME, "clocks of its own since boot"},
	{"mount", "mnt", unix.CLONE_NEWNS, "mounts of its own, the host's stay as they are"},
}

// ByName finds a kind by the OCI's word.
func ByName(name string) (Kind, bool) {
	for _, k := range Kinds {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// Supported reports whether the running kernel has the kind.
func (k Kind) Supported() bool {
	_, err := os.Lstat("/proc/self/ns/" + k.Proc)
	return err == nil
}

// Open opens the namespace of a process.
func Open(pid int, k Kind) (*os.File, error) {
	return OpenPath("/proc/"+strconv.Itoa(pid)+"/ns/"+k.Proc, k)
}

// OpenPath opens a namespace by a path and makes sure that it is one, of this kind (ioctl_ns(2)).
func OpenPath(path string, k Kind) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errs.Wrap("open "+k.Name+" namespace", err)
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil {
		f.Close()
		return nil, errs.New(errs.Invalid, "open "+k.Name+" namespace", fmt.Errorf("%s is no namespace", path))
	}
	if uintptr(kind) != k.Flag {
		f.Close()
		return nil, errs.New(errs.Invalid, "open "+k.Name+" namespace", fmt.Errorf("%s is a namespace of another kind", path))
	}
	return f, nil
}

// Enter moves the calling thread, which must be locked to its goroutine, into a namespace (setns(2)). For a pid
// namespace it is the thread's children that are moved. A user namespace cannot be entered by a program with threads,
// which every Go program is: package spawn does that.
func Enter(f *os.File, k Kind) error {
	err := trace.Step("setns", "share the "+k.Name+" namespace", "kind", k.Name, "path", f.Name()).Do(func() error {
		if k.Flag == unix.CLONE_NEWNS {
			// The root and working directory belong to the process until they are unshared; a mount namespace needs its own.
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return err
			}
		}
		return unix.Setns(int(f.Fd()), int(k.Flag))
	})
	return errs.Wrap("enter "+k.Name+" namespace "+f.Name(), err)
}

// Same reports whether two processes share a namespace.
func Same(a, b int, k Kind) bool {
	x, e1 := os.Readlink("/proc/" + strconv.Itoa(a) + "/ns/" + k.Proc)
	y, e2 := os.Readlink("/proc/" + strconv.Itoa(b) + "/ns/" + k.Proc)
	return e1 == nil && e2 == nil && x == y
}
