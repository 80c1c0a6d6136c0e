//go:build linux && (amd64 || arm64)

package spawn

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is one system call. The assembly knows this layout.
type call struct {
	number uintptr
	args   [6]uintptr
	forks  uintptr // not 0: the call makes a process, which goes on, and whoever made it ends
}

// failure is what the process leaves when a call fails. The assembly knows this layout.
type failure struct {
	errno uintptr // negative error number; 0: none
	left  uintptr // calls that were not made, the failed one included
}

// cloneArgs is struct clone_args (clone3(2), Linux 5.7).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// vfork makes a process, by the system call number with up to three arguments, that makes the calls. It returns the pid
// or a negative error number, when the process has become a program or has ended.
//
//go:noescape
func vfork(number, arg0, arg1, arg2 uintptr, calls *call, n uintptr, fail *failure) (pid int)

// Program is a list of calls, the last of which becomes a program.
type Program struct {
	calls  []call
	names  []string
	keep   []any // what the calls point to
	second int   // which call makes a second process; 0: none, it is never the first
	apart  bool  // the process may not share our memory
	free   bool  // nor do we wait until it is a program: it never is
}

// result is what the processes leave, in memory that is shared whatever else is.
type result struct {
	failure
	pidfd, second int32 // of the first process and the one that Clone makes; -1: none
}

//go:noinline
func (p *Program) add(name string, number uintptr, args ...uintptr) {
	c := call{number: number}
	copy(c.args[:], args)
	p.calls = append(p.calls, c)
	p.names = append(p.names, name)
}

// Setns enters a namespace by its descriptor; flag is its CLONE_NEW*.
func (p *Program) Setns(fd int, flag uintptr, name string) {
	p.apart = p.apart || flag == unix.CLONE_NEWTIME // whoever shares memory counts as a thread there (timens_install)
	p.add("setns "+name, unix.SYS_SETNS, uintptr(fd), flag)
}

// BecomeRoot makes the process root of the user namespace that it has entered, so that it keeps its powers there when it
// becomes a program.
func (p *Program) BecomeRoot() {
	p.add("setgroups", unix.SYS_SETGROUPS, 0, 0)
	p.add("setresgid", unix.SYS_SETRESGID, 0, 0, 0)
	p.add("setresuid", unix.SYS_SETRESUID, 0, 0, 0)
}

// Clone makes a second process in new namespaces (CLONE_NEW*, clone(2)), which goes on with the calls; the first one ends.
// This is how namespaces come to belong to a user namespace that was entered, the pid namespace among them, in which
// only children are. The second process is our child (CLONE_PARENT).
func (p *Program) Clone(namespaces uintptr) {
	p.second = len(p.calls)
	// clone(2) and not clone3(2): outer filters know it. With CLONE_PIDFD its third argument is where the descriptor goes.
	p.add("clone", unix.SYS_CLONE, namespaces|unix.CLONE_PARENT|unix.CLONE_PIDFD|unix.CLONE_VM|unix.CLONE_VFORK)
	p.calls[p.second].forks = 1
}

// ChdirRoot changes the working directory to the root.
func (p *Program) ChdirRoot() error {
	root, err := syscall.BytePtrFromString("/")
	if err != nil {
		return err
	}
	p.keep = append(p.keep, root)
	p.add("chdir", unix.SYS_CHDIR, uintptr(unsafe.Pointer(root)))
	return nil
}

// Setsid begins a session (setsid(2)).
func (p *Program) Setsid() { p.add("setsid", unix.SYS_SETSID) }

// Files makes descriptors 0, 1, … of the program. None of fds may be smaller than their number.
func (p *Program) Files(fds []int) {
	for i, fd := range fds {
		p.add("dup3", unix.SYS_DUP3, uintptr(fd), uintptr(i), 0)
	}
}

// Exec becomes the program that an open file holds (execveat(2), AT_EMPTY_PATH).
func (p *Program) Exec(fd int, argv, env []string) error {
	// Signals are blocked until here: a handler of Go's must not run in this process.
	none := new(uint64)
	p.keep = append(p.keep, none)
	p.add("rt_sigprocmask", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(none)), 0, 8)
	empty, err := syscall.BytePtrFromString("")
	if err != nil {
		return err
	}
	argvp, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return err
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	p.keep = append(p.keep, empty, argvp, envp)
	p.add("execveat", unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(empty)), uintptr(unsafe.Pointer(&argvp[0])), uintptr(unsafe.Pointer(&envp[0])), unix.AT_EMPTY_PATH)
	return nil
}

// Start makes the process. With cgroup, the open folder of a control group of version 2, it is born there. It returns
// when the process is the program; the error names the call that failed.
func (p *Program) Start(cgroup *os.File) (pid int, pidfd *os.File, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	shared, err := unix.Mmap(-1, 0, int(unsafe.Sizeof(result{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, nil, os.NewSyscallError("mmap", err)
	}
	defer func() { _ = unix.Munmap(shared) }()
	r := (*result)(unsafe.Pointer(&shared[0]))
	r.pidfd, r.second = -1, -1
	if pid, err = p.vfork(cgroup, r); err != nil {
		return 0, nil, err
	}
	fd := r.pidfd
	if p.second > 0 {
		_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
		closeFD(fd)
		if fd = r.second; fd < 0 {
			return 0, nil, p.failed(r)
		}
		pid, err = number(fd)
	} else if fd < 0 { // nobody else can reap it, so the number still means it
		var n int
		n, err = unix.PidfdOpen(pid, 0)
		fd = int32(n)
	}
	if err != nil {
		err = os.NewSyscallError("hold process", err)
	} else if r.errno != 0 {
		err = p.failed(r)
	}
	if err != nil {
		reap(pid, fd)
		return 0, nil, err
	}
	return pid, os.NewFile(uintptr(fd), "pidfd"), nil
}

// vfork makes the first process, with all signals blocked, for no handler of Go's may run in it.
func (p *Program) vfork(cgroup *os.File, r *result) (pid int, err error) {
	args := &cloneArgs{flags: unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD, pidfd: uint64(uintptr(unsafe.Pointer(&r.pidfd))), exitSignal: uint64(unix.SIGCHLD)}
	p.keep = append(p.keep, args) // on the heap: a stack may be moved
	if p.apart {
		args.flags &^= unix.CLONE_VM
	}
	if p.free {
		args.flags &^= unix.CLONE_VFORK
	}
	if p.second > 0 {
		args.flags |= unix.CLONE_FILES // the second one's pidfd is to be ours
		p.calls[p.second].args[2] = uintptr(unsafe.Pointer(&r.second))
	}
	if cgroup != nil {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(cgroup.Fd())
	}
	all, old := unix.Sigset_t{}, unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, os.NewSyscallError("rt_sigprocmask", err)
	}
	flags, n := args.flags, uintptr(len(p.calls))
	pid = vfork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0, &p.calls[0], n, &r.failure)
	if pid == -int(unix.ENOSYS) && cgroup == nil { // before Linux 5.3, and under filters that do not know it
		pid = vfork(unix.SYS_CLONE, uintptr(flags)&^unix.CLONE_PIDFD|uintptr(unix.SIGCHLD), 0, 0, &p.calls[0], n, &r.failure)
	}
	merr := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	runtime.KeepAlive(p)
	if pid < 0 {
		return 0, os.NewSyscallError("clone3", syscall.Errno(-pid))
	}
	if merr != nil {
		reap(pid, r.pidfd)
		return 0, os.NewSyscallError("rt_sigprocmask", merr)
	}
	return pid, nil
}

// failed says which call failed.
func (p *Program) failed(r *result) error {
	if r.errno == 0 {
		return errors.New("the process was killed before it was the program")
	}
	return fmt.Errorf("%s: %w", p.names[len(p.names)-int(r.left)], syscall.Errno(-r.errno))
}

func closeFD(fd int32) {
	if fd >= 0 {
		unix.Close(int(fd))
	}
}

// reap ends a process and closes its pidfd.
func reap(pid int, fd int32) {
	if pid > 0 {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
	}
	closeFD(fd)
}

// number is the number that a process has here, whatever pid namespace it was made from (proc(5), fdinfo of a pidfd).
func number(pidfd int32) (int, error) {
	b, err := os.ReadFile("/proc/thread-self/fdinfo/" + strconv.Itoa(int(pidfd)))
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(b), "\n") {
		if text, ok := strings.CutPrefix(line, "Pid:"); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(text))
			if err == nil && pid <= 0 {
				err = unix.ESRCH
			}
			return pid, err
		}
	}
	return 0, unix.ENOENT
}
