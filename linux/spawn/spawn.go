//go:build linux && (amd64 || arm64)

package spawn

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// call is one system call. The assembly knows this layout.
type call struct {
	number uintptr
	args   [6]uintptr
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
	calls []call
	names []string
	keep  []any // what the calls point to
}

func (p *Program) add(name string, number uintptr, args ...uintptr) {
	c := call{number: number}
	copy(c.args[:], args)
	p.calls = append(p.calls, c)
	p.names = append(p.names, name)
}

// Setns enters a namespace by its descriptor; flag is its CLONE_NEW*.
func (p *Program) Setns(fd int, flag uintptr, name string) {
	p.add("setns "+name, unix.SYS_SETNS, uintptr(fd), flag)
}

// BecomeRoot makes the process root of the user namespace that it has entered, so that it keeps its powers there when it
// becomes a program.
func (p *Program) BecomeRoot() {
	p.add("setgroups", unix.SYS_SETGROUPS, 0, 0)
	p.add("setresgid", unix.SYS_SETRESGID, 0, 0, 0)
	p.add("setresuid", unix.SYS_SETRESUID, 0, 0, 0)
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
	fd, args, fail := new(int32), &cloneArgs{}, new(failure)
	p.keep = append(p.keep, fd, args, fail) // on the heap: a stack may be moved, and the kernel writes to where they are now
	*args = cloneArgs{flags: unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD, pidfd: uint64(uintptr(unsafe.Pointer(fd))), exitSignal: uint64(unix.SIGCHLD)}
	if cgroup != nil {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(cgroup.Fd())
	}
	all, old := unix.Sigset_t{}, unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, nil, os.NewSyscallError("rt_sigprocmask", err)
	}
	n := uintptr(len(p.calls))
	pid = vfork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0, &p.calls[0], n, fail)
	if pid == -int(unix.ENOSYS) && cgroup == nil { // before Linux 5.3, and under filters that do not know it
		pid = vfork(unix.SYS_CLONE, unix.CLONE_VM|unix.CLONE_VFORK|uintptr(unix.SIGCHLD), 0, 0, &p.calls[0], n, fail)
		*fd = -1
	}
	merr := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	runtime.KeepAlive(p)
	if pid < 0 {
		return 0, nil, os.NewSyscallError("clone3", syscall.Errno(-pid))
	}
	if *fd < 0 && merr == nil { // nobody else can reap it, so the number still means it
		var n int
		n, merr = unix.PidfdOpen(pid, 0)
		*fd = int32(n)
	}
	pidfd = os.NewFile(uintptr(*fd), "pidfd")
	if fail.errno != 0 || merr != nil {
		if pidfd != nil {
			pidfd.Close()
		}
		_, _ = unix.Wait4(pid, nil, unix.WALL, nil)
		if merr != nil {
			return 0, nil, os.NewSyscallError("hold process", merr)
		}
		return 0, nil, fmt.Errorf("%s: %w", p.names[len(p.names)-int(fail.left)], syscall.Errno(-fail.errno))
	}
	return pid, pidfd, nil
}
