//go:build linux

package container

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func init() { runtime.LockOSThread() } // the main thread is for TestMain, which may become a container's program

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[0] == "berth-runtime" {
		switch os.Args[1] {
		case "init":
			InitMain()
		case "exec":
			ExecMain()
		}
	}
	os.Exit(m.Run())
}

// Each exec shares our memory for a moment. Meanwhile the collector runs all the time and signals come as fast as a
// profiler's: each program must have its own status, and nothing may be left open. BERTH_EXECS says how many.
func TestManyExecs(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("BERTH_EXECS"))
	if err != nil {
		n = 40
	}
	bundle := t.TempDir()
	if out, err := exec.Command("sh", "-c", `mkdir -p "$0/rootfs/bin" "$0/rootfs/proc" && cp /bin/busybox "$0/rootfs/bin/sh"`, bundle).CombinedOutput(); err != nil {
		t.Skipf("no busybox: %s", out)
	}
	spec := minimal()
	spec.Process.Args = []string{"sh", "-c", "while :; do read x; done"}
	spec.Mounts = []specs.Mount{{Destination: "/proc", Type: "proc"}}
	plan, err := NewPlan(spec, bundle)
	if err != nil {
		t.Fatal(err)
	}
	in, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	c, err := Create(CreateOptions{Root: filepath.Join(bundle, "states"), ID: "stress-" + strconv.Itoa(os.Getpid()), Bundle: bundle, Plan: plan, Stdin: in})
	in.Close()
	if err == nil {
		defer func() { _ = c.Delete(true) }()
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Fatal(err)
	}
	defer pprof.StopCPUProfile()
	before, _ := filepath.Glob("/proc/self/fd/*")
	stop := make(chan struct{})
	go func() {
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = unix.Kill(os.Getpid(), unix.SIGPROF)
			}
		}
	}()
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for i := worker; i < n; i += 4 {
				want := i % 100
				p := &Process{Args: []string{"/bin/sh", "-c", "exit " + strconv.Itoa(want)}, Cwd: "/"}
				e, err := c.Exec(ExecOptions{Process: p})
				if err != nil {
					t.Errorf("exec %d: %v", i, err)
					return
				}
				if status, err := e.Wait(); err != nil || status.ExitStatus() != want {
					t.Errorf("exec %d ended with %v, %v", i, status, err)
				}
				e.Close()
			}
		})
	}
	all.Wait()
	close(stop)
	if after, _ := filepath.Glob("/proc/self/fd/*"); len(after) > len(before)+8 { // the poller and threads' own
		t.Errorf("%d descriptors, %d before", len(after), len(before))
	}
}
