//go:build linux

package logs

import (
	"compress/gzip"
	"io"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// CompressArg is the argument by which berth compresses its standard input to its standard output.
const CompressArg = "compress"

// compression is a child that makes a rotated file smaller.
type compression struct {
	index int // that of the file by now: it may be rotated meanwhile
	pid   int
	pidfd *os.File
	done  chan struct{}
	over  bool // its result is not wanted any more
}

// temporary is where a compressed file grows.
func (l *file) temporary() string { return l.File + packed + ".new" }

// compress starts the compression of the file that was rotated i times. If it cannot be, the file stays as it is. The
// caller holds mu.
func (l *file) compress(i int) {
	from, err := os.Open(l.name(i))
	if err != nil {
		return
	}
	defer from.Close()
	to, err := os.OpenFile(l.temporary(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer to.Close()
	fi, err := from.Stat()
	if err != nil {
		return
	}
	w, pidfd := &compression{index: i, done: make(chan struct{})}, -1
	w.pid, err = syscall.ForkExec(compressor(), []string{"berth-runtime", CompressArg}, &syscall.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=1"}, Files: []uintptr{from.Fd(), to.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd},
	})
	if err != nil {
		_ = os.Remove(l.temporary())
		return
	}
	if pidfd >= 0 {
		w.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	}
	l.work = w
	go l.finish(w, fi)
}

// compressor is the program that compresses: berth. In berth-runtime, beside it, the code would take 60 KB.
func compressor() string {
	const self = "/proc/self/exe"
	path, err := os.Readlink(self)
	if berth, ok := strings.CutSuffix(strings.TrimSuffix(path, " (deleted)"), "-runtime"); err == nil && ok {
		return berth
	}
	return self
}

// finish puts the compressed file in the place of the other, with its time: a reader knows it by that.
func (l *file) finish(w *compression, was os.FileInfo) {
	defer close(w.done)
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(w.pid, &status, unix.WALL, nil); err != unix.EINTR {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.work = nil
	w.pidfd.Close()
	now, err := os.Stat(l.name(w.index))
	if w.over || !status.Exited() || status.ExitStatus() != 0 {
		_ = os.Remove(l.temporary())
		return
	}
	if err == nil && os.SameFile(now, was) {
		_ = os.Chtimes(l.temporary(), was.ModTime(), was.ModTime())
		if os.Rename(l.temporary(), l.name(w.index)+packed) != nil {
			return
		}
		_ = os.Remove(l.name(w.index))
	} else { // rotated away while the child was at it
		_ = os.Remove(l.temporary())
	}
	for i := 1; i < l.MaxFiles && l.work == nil; i++ { // those that were rotated meanwhile
		if _, err := os.Stat(l.name(i)); err == nil {
			l.compress(i)
		}
	}
}

// abandon ends the child. The caller holds the file's mu.
func (w *compression) abandon() {
	w.over = true
	if w.pidfd != nil {
		_ = unix.PidfdSendSignal(int(w.pidfd.Fd()), unix.SIGKILL, nil, 0)
	}
}

func (l *file) compressing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.work != nil
}

// CompressMain is the child. It returns the exit status of its process.
func CompressMain() int {
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 19) // nobody waits for it
	out, err := gzip.NewWriterLevel(os.Stdout, gzip.BestSpeed)
	if err == nil {
		_, err = io.Copy(out, os.Stdin)
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return 1
	}
	return 0
}
