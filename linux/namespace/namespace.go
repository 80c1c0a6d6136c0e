//go:build linux

package namespace

import (
	"errors"
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

// Open opens the namespace of a process; 0 is the calling thread.
func Open(pid int, k Kind) (*os.File, error) {
	who := "thread-self"
	if pid != 0 {
		who = strconv.Itoa(pid)
	}
	return OpenPath("/proc/"+who+"/ns/"+k.Proc, k)
}

// OpenPath opens a namespace by a path and makes sure that it is one, of this kind (ioctl_ns(2)). A path where nothing is
// gives an error of kind NotFound, anything else that is no such namespace one of kind Invalid.
func OpenPath(path string, k Kind) (*os.File, error) {
	op := "open " + k.Name + " namespace"
	// The path comes from a configuration: a FIFO must not hang us, a terminal must not become ours.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errs.New(errs.NotFound, op, err)
	}
	if err != nil {
		return nil, errs.Wrap(op, err)
	}
	if err := check(f, k); err != nil {
		f.Close()
		return nil, errs.New(errs.Invalid, op, fmt.Errorf("%s %w", path, err))
	}
	return f, nil
}

func check(f *os.File, k Kind) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.NSFS_MAGIC {
		return errors.New("is no namespace")
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("does not tell its kind: %w", err)
	}
	for _, other := range Kinds {
		if uintptr(kind) == other.Flag && kind != int(k.Flag) {
			return errors.New("is a namespace of kind " + other.Name)
		}
	}
	if uintptr(kind) != k.Flag {
		return errors.New("is a namespace of another kind")
	}
	return nil
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
