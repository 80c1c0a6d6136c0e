//go:build linux

package container

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/caps"
)

// The last mile: what makes the calling thread the container's program, for the first process and for further ones.
// The thread must be locked; what it becomes is what execve keeps.

func rlimitNumber(name string) (int, bool) {
	names := [...]string{"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"}
	for i, n := range names {
		if name == "RLIMIT_"+n {
			return i, true
		}
	}
	return 0, false
}

// SetLimits changes limits of processes that run; those that have gone meanwhile are left out.
func SetLimits(pids []int, limits []specs.POSIXRlimit) error {
	var p Process
	if err := p.limits(limits); err != nil {
		return err
	}
	for _, pid := range pids {
		if err := p.limit(pid); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

func (p *Process) setLimits() error { return p.limit(0) }

// limit sets the resource limits of a process, 0 is the calling one. Raising a hard limit needs CAP_SYS_RESOURCE; where the
// host does not have it, the limit stays at what the host has, with a note: a container is not refused for a wish.
func (p *Process) limit(pid int) error {
	for _, r := range p.Rlimits {
		n, _ := rlimitNumber(r.Name)
		err := trace.Step("setrlimit", "a limit of the process", "limit", r.Name, "soft", r.Soft, "hard", r.Hard).Do(func() error {
			return unix.Prlimit(pid, n, &unix.Rlimit{Cur: r.Soft, Max: r.Hard}, nil)
		})
		if err == unix.EPERM {
			var now unix.Rlimit
			if err = unix.Prlimit(pid, n, nil, &now); err == nil {
				hard := min(r.Hard, now.Max)
				err = trace.Step("setrlimit", "the host has no more to give (no CAP_SYS_RESOURCE)", "limit", r.Name, "hard", hard).Do(func() error {
					return unix.Prlimit(pid, n, &unix.Rlimit{Cur: min(r.Soft, hard), Max: hard}, nil)
				})
			}
		}
		if err == unix.EINVAL {
			return errs.New(errs.Invalid, "set "+r.Name, fmt.Errorf("soft limit %d is above hard limit %d", r.Soft, r.Hard))
		}
		if err != nil {
			return errs.Wrap("set "+r.Name, err)
		}
	}
	return nil
}

// dropPrivileges makes the thread's rights those of the container, in the order in which each step still may.
func (p *Process) dropPrivileges() error {
	err := trace.Step("prctl PR_CAPBSET_DROP", "no program executed later can get back what is not in this set", "keep", p.Caps.Bounding).
		Do(func() error { return caps.DropBounding(p.Caps.Bounding) })
	if err != nil {
		return err
	}
	// The permitted set outlives the change of user, to be cut to size after it.
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return errs.Wrap("keep capabilities", err)
	}
	if err := p.setIDs(); err != nil {
		return err
	}
	err = trace.Step("capset", "root in the container, but not all of root's powers", "effective", p.Caps.Effective, "permitted", p.Caps.Permitted).Do(func() error {
		_, err := p.Caps.Apply()
		return err
	})
	if err != nil {
		return err
	}
	if p.Umask != nil {
		unix.Umask(int(*p.Umask))
	}
	return errs.Wrap("clear keepcaps", unix.Prctl(unix.PR_SET_KEEPCAPS, 0, 0, 0, 0))
}

// setIDs sets the supplementary groups to exactly those asked for (CVE-2022-2989, CVE-2022-36109), then group and user.
// The raw calls concern this thread alone, which is all that execve keeps.
func (p *Process) setIDs() error {
	return trace.Step("setgroups setresgid setresuid", "who the program runs as", "uid", p.UID, "gid", p.GID, "groups", p.Groups).Do(func() error {
		// The standard library's calls would stop every thread to change them all.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(p.Groups)), uintptr(unsafe.Pointer(unsafe.SliceData(p.Groups))), 0); errno != 0 {
			return errs.Wrap("set supplementary groups", errno)
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(p.GID), uintptr(p.GID), uintptr(p.GID)); errno != 0 {
			return idError("group", p.GID, errno)
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(p.UID), uintptr(p.UID), uintptr(p.UID)); errno != 0 {
			return idError("user", p.UID, errno)
		}
		return nil
	})
}

func idError(what string, id uint32, err error) error {
	if err == unix.EINVAL {
		return errs.New(errs.Invalid, fmt.Sprintf("become %s %d", what, id), fmt.Errorf("the user namespace does not map it"))
	}
	return errs.Wrap(fmt.Sprintf("become %s %d", what, id), err)
}

// tryCwd changes to the working directory with the rights that are still there: its user may be one that may not enter
// it, as in runc. A directory that this is too little for, one of another user's on NFS, is left to that user. It comes
// before the filter, which may deny what insideRoot asks.
func (p *Process) tryCwd() error {
	err := p.chdir()
	p.inCwd = err == nil
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}

// enterCwd changes to the working directory as the program's user, if that is still to be done.
func (p *Process) enterCwd() error {
	if p.inCwd {
		return nil
	}
	return p.chdir()
}

// chdir makes sure that the working directory lies in the container: a directory reached through a leaked descriptor
// has no path from the root (CVE-2024-21626).
func (p *Process) chdir() error {
	op := fmt.Sprintf("change to working directory %q", p.Cwd)
	err := trace.Step("chdir", "where the program starts", "dir", p.Cwd).Do(func() error { return unix.Chdir(p.Cwd) })
	if err != nil { // the exit status is that of a program that cannot be executed, as Docker's
		kind := errs.NoCommand
		if errors.Is(err, fs.ErrPermission) {
			kind = errs.NotExecutable
		}
		return errs.New(kind, op, err)
	}
	buf := make([]byte, unix.PathMax)
	if n, err := unix.Getcwd(buf); err != nil || n < 1 || buf[0] != '/' {
		return errs.New(errs.Invalid, op, fmt.Errorf("it is outside of the container's root"))
	}
	return nil
}

// setHome gives the program a HOME where it has none: that of its user in the container, or /, as runc.
func (p *Process) setHome() error {
	p.Env = slices.DeleteFunc(p.Env, func(e string) bool { return e == "HOME=" })
	if slices.ContainsFunc(p.Env, func(e string) bool { return strings.HasPrefix(e, "HOME=") }) {
		return nil
	}
	home := "/"
	// A pipe in its place does not keep us waiting.
	if f, err := os.OpenFile("/etc/passwd", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		b, _ := io.ReadAll(io.LimitReader(f, 1<<20))
		f.Close()
		for _, line := range strings.Split(string(b), "\n") {
			if field := strings.Split(line, ":"); len(field) > 5 && field[2] == strconv.FormatUint(uint64(p.UID), 10) && field[5] != "" {
				home = field[5]
				break
			}
		}
	}
	p.Env = append(p.Env, "HOME="+home)
	return nil
}

// closeFiles marks every descriptor beyond the standard streams and the preserved ones to be closed by execve
// (CVE-2024-21626, CVE-2016-9962: nothing of ours stays open).
func closeFiles(preserved int) error {
	first := uint(3 + preserved)
	err := unix.CloseRange(first, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err != unix.ENOSYS && err != unix.EINVAL {
		return errs.Wrap("mark descriptors to be closed", err)
	}
	var limit unix.Rlimit // before Linux 5.11
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return errs.Wrap("mark descriptors to be closed", err)
	}
	for fd := int(first); fd < int(min(limit.Max, 1<<16)); fd++ {
		unix.CloseOnExec(fd)
	}
	return nil
}

// lookPath finds the program as execvp(3) does, with the PATH of the container.
func (p *Process) lookPath() (string, error) {
	name := p.Args[0]
	if strings.Contains(name, "/") {
		return name, checkProgram(name, name)
	}
	search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range p.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	var refused error
	for _, dir := range strings.Split(search, ":") {
		if dir == "" {
			dir = "."
		}
		file := path.Join(dir, name)
		err := checkProgram(file, name)
		if err == nil {
			return file, nil
		}
		if errs.Is(err, errs.NotExecutable) && refused == nil {
			refused = err
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", errs.New(errs.NoCommand, fmt.Sprintf("exec: %q: executable file not found in $PATH", name), nil)
}

func checkProgram(file, name string) error {
	fi, err := os.Stat(file)
	op := fmt.Sprintf("exec: %q", name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		return errs.New(errs.NoCommand, op, fmt.Errorf("stat %s: no such file or directory", file))
	case err != nil:
		return errs.New(errs.NotExecutable, op, fmt.Errorf("stat %s: permission denied", file))
	case fi.IsDir():
		return errs.New(errs.NotExecutable, op, fmt.Errorf("is a directory"))
	}
	if err := unix.Access(file, unix.X_OK); err != nil {
		return errs.New(errs.NotExecutable, op, fmt.Errorf("permission denied")).WithHint("chmod +x " + file + " in the image")
	}
	return nil
}

// exec executes the program; it returns only when that fails.
func (p *Process) exec(file string) error {
	env := p.Env
	if env == nil {
		env = []string{}
	}
	var err error
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Exec(file, p.Args, env)
	}
	return explainExec(file, err)
}
