//go:build linux

package test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// bin is the folder of the programs, as `make build` would make them.
var bin string

// inside is set in the second start of the test program, which has namespaces of its own.
const inside = "BERTH_TEST_INSIDE"

// TestMain builds the programs and runs the tests in network and mount namespaces of their own, so that bridges,
// firewalls and mounts concern nobody else. Processes and control groups are the host's.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("SKIP: containers need root")
		os.Exit(0)
	}
	if dir := os.Getenv(inside); dir != "" {
		bin = dir
		os.Exit(runInside(m))
	}
	dir, err := os.MkdirTemp("", "berth-test-")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	code := 1
	if err := build(dir); err != nil {
		fmt.Println(err)
	} else {
		code = again(dir)
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build builds the programs; a machine without Go gets them built beside the test program (test/vm).
func build(dir string) error {
	if prebuilt := os.Getenv("BERTH_TEST_PROGRAMS"); prebuilt != "" {
		out, err := exec.Command("cp", prebuilt+"/berth", prebuilt+"/berth-runtime", dir).CombinedOutput()
		if err != nil {
			return fmt.Errorf("copy programs: %w: %s", err, out)
		}
		return nil
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "./cmd/...")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build programs: %w: %s", err, out)
	}
	return nil
}

func again(dir string) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		fmt.Println(err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

func runInside(m *testing.M) int {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Println("make mounts private:", err)
		return 1
	}
	if err := loopbackUp(); err != nil {
		fmt.Println("bring up loopback:", err)
		return 1
	}
	// One script after the other: what one looks for on the host must not be another's, and there is one firewall.
	if err := flag.Set("test.parallel", "1"); err != nil {
		fmt.Println(err)
		return 1
	}
	before := traces()
	code := m.Run()
	if left := newTraces(before); len(left) > 0 {
		fmt.Printf("FAIL: the tests have left behind:\n%s\n", strings.Join(left, "\n"))
		return 1
	}
	return code
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// traces are what containers would leave on this host: control groups, mounts, processes of Berth's, network links but
// the bridges, which stay.
func traces() map[string]bool {
	out := map[string]bool{}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && (strings.Contains(path, "/berth/") || strings.Contains(path, "/berth-runtime/")) {
			out["control group "+path] = true
		}
		return nil
	})
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, line := range strings.Split(string(mounts), "\n") {
		if f := strings.Fields(line); len(f) > 4 {
			out["mount on "+f[4]] = true
		}
	}
	links, _ := os.ReadDir("/sys/class/net")
	for _, l := range links {
		if !strings.HasPrefix(l.Name(), "berth") && !strings.HasPrefix(l.Name(), "br-") {
			out["link "+l.Name()] = true
		}
	}
	for _, pid := range processes() {
		out["process "+pid] = true
	}
	return out
}

// processes lists those whose program is Berth's.
func processes() []string {
	var out []string
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		cmdline, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || !strings.HasPrefix(string(cmdline), "berth-runtime\x00") {
			continue
		}
		out = append(out, e.Name()+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
	}
	return out
}

func newTraces(before map[string]bool) []string {
	var out []string
	for what := range traces() {
		if !before[what] {
			out = append(out, what)
		}
	}
	return out
}
