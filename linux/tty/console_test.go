//go:build linux

package tty

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// listener listens at a socket and returns what accepts the first connection.
func listener(t *testing.T, path string) func() *os.File {
	t.Helper()
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	short := filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), filepath.Base(path))
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: short}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	return func() *os.File {
		t.Helper()
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(c), "connection")
		t.Cleanup(func() { f.Close() })
		return f
	}
}

func TestSendConsole(t *testing.T) {
	for name, dir := range map[string]string{"short": "", "longer than an address": strings.Repeat("d", 120)} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), dir, "console.sock")
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			accept := listener(t, path)
			master, slave := pty(t)
			if err := SendConsole(path, master); err != nil {
				t.Fatal(err)
			}
			got, err := ReceiveFile(accept())
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			if got.Name() != "/dev/ptmx" {
				t.Errorf("its name is %s", got.Name())
			}
			if _, err := got.WriteString("hello\n"); err != nil {
				t.Fatal(err)
			}
			if line := readLine(t, slave); line != "hello\n" {
				t.Errorf("the slave reads %q", line)
			}
			if flags, err := unix.FcntlInt(got.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("a program started meanwhile would inherit it: %x, %v", flags, err)
			}
		})
	}
	if err := SendConsole(filepath.Join(t.TempDir(), "none"), os.Stdin); err == nil {
		t.Error("nobody listens and it was sent")
	}
}

func pair(t *testing.T, flags int) (a, b *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b = os.NewFile(uintptr(fds[0]), "a"), os.NewFile(uintptr(fds[1]), "b")
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestReceiveFileTakesExactlyOne(t *testing.T) {
	for _, n := range []int{0, 2, 4} {
		a, b := pair(t, 0)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var rights []byte
		for range n {
			rights = append(rights, unix.UnixRights(int(w.Fd()))...)
		}
		if err := unix.Sendmsg(int(a.Fd()), []byte("x"), rights, nil, 0); err != nil {
			t.Fatal(err)
		}
		if f, err := ReceiveFile(b); !errs.Is(err, errs.Invalid) || f != nil {
			t.Errorf("%d descriptors: %v, %v", n, f, err)
		}
		// A copy of the pipe's end that was left open would keep this from ending.
		w.Close()
		if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read %d, %v", n, err)
		}
		r.Close()
	}
	a, b := pair(t, 0)
	a.Close()
	if _, err := ReceiveFile(b); !errs.Is(err, errs.Unavailable) {
		t.Errorf("the sender is gone: %v", err)
	}
}

// The two ends may be in non-blocking mode, as Go's own connections are.
func TestReceiveFileWaits(t *testing.T) {
	a, b := pair(t, unix.SOCK_NONBLOCK)
	got := make(chan error, 1)
	go func() {
		f, err := ReceiveFile(b)
		if err == nil {
			err = f.Close()
		}
		got <- err
	}()
	if err := SendFile(a, os.Stdin); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	long := os.NewFile(uintptr(mustDup(t)), strings.Repeat("n", maxName+1))
	defer long.Close()
	if err := SendFile(a, long); !errs.Is(err, errs.Invalid) {
		t.Errorf("a name that would be cut: %v", err)
	}
}

func mustDup(t *testing.T) int {
	t.Helper()
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
