//go:build linux

package container

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Sealed is a program to start as init that the container cannot reach: a copy in memory that nobody can write any
// more, not the file on disk. A container that executes /proc/self/exe, or opens it through another process of its pid
// namespace, gets at the copy (CVE-2019-5736, and CVE-2022-0847, which wrote through read-only mounts).
//
// The program is `berth-runtime`, beside this one when this is `berth`: it is a fifth of the size.
type Sealed struct {
	made chan struct{} // closed when f or err is there
	f    *os.File
	err  error
}

// Seal begins to make a copy, beside whatever else is done before a container needs it. It is for one container.
func Seal() *Sealed {
	s := &Sealed{made: make(chan struct{})}
	go func() {
		s.f, s.err = seal()
		close(s.made)
	}()
	return s
}

// take waits for the copy, which is the caller's from now on. The time of the step is what is left to wait.
func (s *Sealed) take() (*os.File, error) {
	err := trace.Step("memfd_create", "init runs from a sealed copy: the container never holds our program's file", "seals", "WRITE,SHRINK,GROW,SEAL").
		Do(func() error {
			<-s.made
			return s.err
		})
	return s.f, errs.Wrap("seal own program", err)
}

// ownProgram is the file to copy.
func ownProgram() (*os.File, error) {
	if self, err := os.Readlink("/proc/self/exe"); err == nil {
		if beside := filepath.Join(filepath.Dir(self), "berth-runtime"); filepath.Base(self) != "berth-runtime" {
			if f, err := os.Open(beside); err == nil {
				return f, nil
			}
		}
	}
	return os.Open("/proc/self/exe")
}

func seal() (*os.File, error) {
	src, err := ownProgram()
	if err != nil {
		return nil, err
	}
	defer src.Close()
	fd, err := unix.MemfdCreate("berth-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3 every memfd is executable
		fd, err = unix.MemfdCreate("berth-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	dst := os.NewFile(uintptr(fd), "berth-init")
	fi, err := src.Stat()
	if err == nil {
		err = copyAll(dst, src, fi.Size())
	}
	// Who may not read a program may not trace who executes it, whatever powers he has in a user namespace (would_dump in
	// fs/exec.c): root of a container cannot get hold of a process of ours that is there already and has not become the
	// container's program yet. That it is not dumpable keeps out only those without CAP_SYS_PTRACE (CVE-2016-9962).
	if err == nil {
		err = dst.Chmod(0o711)
	}
	// A busy machine's kernel (memfd_wait_for_pins) may find a page in use by its own reclaim: it waits, then says EBUSY.
	for try := 0; (err == nil || err == unix.EBUSY) && try < 10; try++ {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
		if err == nil {
			break
		}
	}
	if err != nil {
		dst.Close()
		return nil, err
	}
	return dst, nil
}

// copyAll copies in the kernel.
func copyAll(dst, src *os.File, size int64) error {
	for size > 0 {
		n, err := unix.Sendfile(int(dst.Fd()), int(src.Fd()), nil, int(min(size, 1<<30)))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("sendfile", err)
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		size -= int64(n)
	}
	return nil
}

// high gives a descriptor a number that the child's own files do not take: fork shuffles those, and the program to
// execute must not be lost in between.
func high(f *os.File, above int) (int, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, above)
	if err != nil {
		return -1, errs.New(errs.Internal, "keep descriptor", fmt.Errorf("fcntl: %w", err))
	}
	return fd, nil
}
