//go:build linux

package mount

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// without names the variable that makes this program run its tests as on a kernel that lacks some system calls.
const without = "MOUNT_TEST_WITHOUT"

func TestMain(m *testing.M) {
	if list := os.Getenv(without); list != "" {
		if err := refuse(strings.Split(list, ",")); err != nil {
			fmt.Fprintln(os.Stderr, "make an older kernel:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// refuse makes system calls fail with ENOSYS in all threads of this process (seccomp(2)).
func refuse(calls []string) error {
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the number of the call
	for _, c := range calls {
		n, err := strconv.ParseUint(c, 10, 32)
		if err != nil {
			return err
		}
		prog = append(prog, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(n)},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)})
	}
	prog = append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	return seccomp(&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
}

// TestOnOlderKernels runs the other tests of this package where the kernel lacks what the fall-backs are for.
func TestOnOlderKernels(t *testing.T) {
	if os.Getenv(without) != "" {
		t.Skip("this is the older kernel")
	}
	for name, calls := range map[string][]int{
		"openat2":                     {unix.SYS_OPENAT2},
		"mount_setattr and fchmodat2": {unix.SYS_MOUNT_SETATTR, unix.SYS_FCHMODAT2},
	} {
		t.Run("without "+name, func(t *testing.T) {
			c := exec.Command("/proc/self/exe", "-test.v", "-test.skip=OnOlderKernels|AnyDepth")
			c.Env = append(os.Environ(), without+"="+strings.Trim(strings.ReplaceAll(fmt.Sprint(calls), " ", ","), "[]"))
			out, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			for line := range strings.Lines(string(out)) {
				if strings.HasPrefix(strings.TrimSpace(line), "--- SKIP") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}

// lacks reports whether this process plays a kernel without a system call.
func lacks(call int) bool {
	for _, c := range strings.Split(os.Getenv(without), ",") {
		if c == strconv.Itoa(call) {
			return true
		}
	}
	return false
}

// root makes a folder and opens it as the bound of look-ups.
func root(t *testing.T) (string, *Root) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	mkdirs(t, dir)
	r, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return dir, r
}

func mkdirs(t *testing.T, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	mkdirs(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func handle(t *testing.T, path string) *os.File {
	t.Helper()
	h, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// attach attaches what a call made to a path, or fails the test with the call's error.
func attach(t *testing.T, target string, tree *Tree, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := tree.Attach(handle(t, target), "test"); err != nil {
		t.Fatal(err)
	}
}

// mounts are the lines of the calling thread's mountinfo (proc_pid_mountinfo(5)).
func mounts(t *testing.T) string {
	t.Helper()
	return read(t, "/proc/thread-self/mountinfo")
}

func seccomp(prog *unix.SockFprog) error {
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(prog)))
	if errno != 0 {
		return errno
	}
	return nil
}
