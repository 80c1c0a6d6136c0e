//go:build linux

package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

func init() { runtime.LockOSThread() } // no goroutine that enters a group gets the main thread

func p[T any](v T) *T { return &v }

// group makes a group of the test's own, and removes it with all that is in it.
func group(t *testing.T) *Group {
	t.Helper()
	g, err := New(fmt.Sprintf("berth-test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(g.Kill(), g.Delete()); err != nil {
			t.Error(err)
		}
		for _, d := range g.State().Dirs {
			if exists(d) {
				t.Errorf("left: %s", d)
			}
		}
	})
	return g
}

// start runs a program that is born in the group.
func start(t *testing.T, g *Group, script string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	out := new(bytes.Buffer)
	c := exec.Command("sh", "-c", script)
	c.Stdout, c.Stderr = out, out
	dir, err := g.Dir()
	if err != nil {
		t.Fatal(err)
	}
	if dir != nil {
		c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	}
	if err := g.Fork(c.Start); err != nil {
		t.Fatal(err)
	}
	return c, out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestProcessIsBornInsideAndKilled(t *testing.T) {
	g := group(t)
	c, _ := start(t, g, "sleep 1000 & sleep 1000 & wait")
	eventually(t, "three processes", func() bool { pids, _ := g.Pids(); return len(pids) == 3 })
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		if f := strings.SplitN(l, ":", 3); g.V2() != (f[1] == "") {
			continue // the hierarchy beside those of version 1
		} else if f[2] != g.Path() {
			t.Errorf("born in %s", l)
		}
	}
	if err := Load(g.State()).Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil {
		t.Error("it ended by itself")
	}
}

func TestFreezerHoldsAndKillThaws(t *testing.T) {
	g := group(t)
	c, out := start(t, g, "while :; do echo x; sleep 0.01; done")
	eventually(t, "output", func() bool { return g.Freeze() == nil })
	if frozen, err := g.Frozen(); !frozen || !g.Frosty() || err != nil {
		t.Errorf("frozen %v, frosty %v, %v", frozen, g.Frosty(), err)
	}
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	if frozen, _ := g.Frozen(); frozen || g.Frosty() {
		t.Error("frozen after thaw")
	}
	if err := g.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	_ = out
}

func TestMemoryLimitKillsAndIsCounted(t *testing.T) {
	g := group(t)
	events, err := g.OOMEvents()
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	if err := g.Set(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: p(int64(16 << 20)), Swap: p(int64(16 << 20))}}); err != nil {
		t.Fatal(err)
	}
	c, out := start(t, g, "head -c 200m /dev/zero | tail >/dev/null; echo $?")
	_ = c.Wait()
	if g.OOMKills() == 0 {
		t.Errorf("nothing was killed: %s", out)
	}
	eventually(t, "an event", func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLIN}}, 0)
		return n == 1 && err == nil
	})
}

func TestForkBombStopsAtItsLimit(t *testing.T) {
	g := group(t)
	if err := g.Set(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: p(int64(12))}}); err != nil {
		t.Fatal(err)
	}
	c, out := start(t, g, "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 1000 >/dev/null 2>&1 & done; wait")
	_ = c.Wait()
	s, err := g.Stats()
	if err != nil || s.Pids.Limit != 12 || s.Pids.Current > 12 {
		t.Errorf("%+v, %v, %s", s.Pids, err, out)
	}
	if !strings.Contains(out.String(), "fork") {
		t.Errorf("no fork was refused: %s", out)
	}
}

func TestDeviceFilter(t *testing.T) {
	g := group(t)
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Major: p(int64(1)), Minor: p(int64(3)), Access: "rwm"},
		{Allow: true, Type: "c", Major: p(int64(1)), Minor: p(int64(5)), Access: "r"}}
	if err := g.Set(&specs.LinuxResources{Devices: rules}); err != nil {
		t.Fatal(err)
	}
	try := "for d in null zero full; do head -c 1 /dev/$d >/dev/null 2>&1 && echo -n r$d' '; (: >/dev/$d) 2>/dev/null && echo -n w$d' '; done"
	c, out := start(t, g, try)
	_ = c.Wait()
	if got := strings.TrimSpace(out.String()); got != "rnull wnull rzero" {
		t.Errorf("reached %q", got)
	}
	// An update replaces the rules.
	if err := g.Set(&specs.LinuxResources{Devices: append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: p(int64(1)), Minor: p(int64(7)), Access: "rw"})}); err != nil {
		t.Fatal(err)
	}
	c, out = start(t, g, try)
	_ = c.Wait()
	if got := strings.TrimSpace(out.String()); !strings.HasSuffix(got, "rfull") && !strings.Contains(got, "rfull") {
		t.Errorf("after an update reached %q", got)
	}
}

func TestRefusedLimitNamesFileValueAndReason(t *testing.T) {
	g := group(t)
	for _, r := range []specs.LinuxResources{
		{CPU: &specs.LinuxCPU{Cpus: "9999"}}, {CPU: &specs.LinuxCPU{Cpus: "0-9999999999"}}, {CPU: &specs.LinuxCPU{Cpus: "a"}},
		{BlockIO: &specs.LinuxBlockIO{Weight: p(uint16(5))}}, {Devices: []specs.LinuxDeviceCgroup{{Type: "x"}}},
		{CPU: &specs.LinuxCPU{Quota: p(int64(1)), Period: p(uint64(100000))}},
	} {
		err := g.Set(&r)
		if err == nil || errs.KindOf(err) == errs.Internal {
			t.Errorf("%+v: %v (%v)", r, err, errs.KindOf(err))
		}
	}
	err := g.Set(&specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "9999"}})
	if err == nil || !strings.Contains(err.Error(), "cpuset.cpus") || !strings.Contains(err.Error(), "9999") {
		t.Errorf("the error does not say what: %v", err)
	}
}

func TestGroupsBelowGoToo(t *testing.T) {
	g := group(t)
	sub, err := New(g.Path() + "/a/b")
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Create(); err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{"..": "bad sub cgroup path", "nothere": "no such file", "nosuch:a": "unknown controller", "a/b": "", "/": ""} {
		if below, err := g.Below([]string{words}); (want == "") != (err == nil) || err != nil && !g.V2() && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", words, below, err)
		}
	}
	c, _ := start(t, sub, "exec sleep 1000")
	if pids, err := g.Pids(); err != nil || len(pids) != 1 {
		t.Errorf("%v, %v", pids, err)
	}
	if err := g.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	if err := g.Delete(); err != nil || g.Exists() {
		t.Errorf("deleted: %v", err)
	}
}

func TestPathNeverLeavesTheHierarchy(t *testing.T) {
	g, err := New("../../../../tmp/evil/../x")
	if err != nil || g.Path() != "/tmp/x" {
		t.Errorf("%v, %v", g, err)
	}
	for _, bad := range []string{"", "/", "..", "a\nb"} {
		if _, err := New(bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestConversions(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 0, 1: 1, 2: 1, 1024: 100, 262144: 10000, 300000: 10000, 512: 59} {
		if got := SharesToWeight(shares); got != want {
			t.Errorf("%d shares are weight %d, want %d", shares, got, want)
		}
	}
	for w, want := range map[uint16]uint64{10: 1, 1000: 10000, 500: 4950} {
		if got := ioWeight(w); got != want {
			t.Errorf("blkio weight %d is io.weight %d, want %d", w, got, want)
		}
	}
	if !Within("0-1", "0-3") || Within("0-4", "0-3") || Within("9", "0,2-4") {
		t.Error("Within is wrong")
	}
}

// What is written for a full set of limits, for both versions.
func TestSettings(t *testing.T) {
	r := &specs.LinuxResources{
		CPU:            &specs.LinuxCPU{Shares: p(uint64(512)), Quota: p(int64(50000)), Period: p(uint64(100000)), Cpus: "0", Mems: "0"},
		Memory:         &specs.LinuxMemory{Limit: p(int64(100 << 20)), Swap: p(int64(150 << 20)), Reservation: p(int64(50 << 20))},
		Pids:           &specs.LinuxPids{Limit: p(int64(100))},
		BlockIO:        &specs.LinuxBlockIO{Weight: p(uint16(500)), ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttle(8, 0, 1000)}},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
	}
	for version, want := range map[int]string{
		1: "cpuset.cpus=0 cpuset.mems=0 cpu.shares=512 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000 " +
			"memory.limit_in_bytes=104857600 memory.memsw.limit_in_bytes=157286400 memory.soft_limit_in_bytes=52428800 pids.max=100 " +
			"blkio.weight=500 blkio.throttle.read_bps_device=8:0 1000 hugetlb.2MB.limit_in_bytes=4194304",
		2: "cpuset.cpus=0 cpuset.mems=0 cpu.weight=59 cpu.max=50000 100000 memory.swap.max=52428800 memory.max=104857600 " +
			"memory.low=52428800 pids.max=100 io.weight=4950 io.max=8:0 rbps=1000 hugetlb.2MB.max=4194304",
	} {
		g := &Group{state: State{Version: version, Dirs: map[string]string{"": "/nonexistent"}}}
		ss, err := g.settings(r)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range ss {
			got = append(got, s.file+"="+s.value)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("v%d: %s\nwant %s", version, s, want)
		}
	}
}

func throttle(major, minor int64, rate uint64) specs.LinuxThrottleDevice {
	var d specs.LinuxThrottleDevice
	d.Major, d.Minor, d.Rate = major, minor, rate
	return d
}
