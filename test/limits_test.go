//go:build linux

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Two containers want all of one CPU: they share it as their weights say.
func TestCPUIsSharedByWeight(t *testing.T) {
	root := newRoot(t)
	for name, shares := range map[string]string{"heavy": "1024", "light": "256"} {
		if _, errOut, code := berth(t, root, "run", "-d", "--name", name, "--net", "none", "--cpuset-cpus", "0", "--cpu-shares", shares, "/bin/sh", "-c", "while :; do :; done"); code != 0 {
			t.Fatal(errOut)
		}
	}
	var heavy, light float64
	for range 10 { // each look is 0.3 s long
		out, errOut, code := berth(t, root, "stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}}")
		if code != 0 {
			t.Fatal(errOut)
		}
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			name, percent, _ := strings.Cut(line, " ")
			n, err := strconv.ParseFloat(strings.TrimSuffix(percent, "%"), 64)
			if err != nil {
				t.Fatalf("%q: %v", out, err)
			}
			if name == "heavy" {
				heavy += n
			} else {
				light += n
			}
		}
	}
	if ratio := heavy / light; !(ratio > 2 && ratio < 8) {
		t.Errorf("1024 shares got %.1f %% and 256 shares %.1f %%: %.1f times as much", heavy/10, light/10, ratio)
	}
}

// A quota holds a container that wants more.
func TestCPUQuotaHolds(t *testing.T) {
	root := newRoot(t)
	if _, errOut, code := berth(t, root, "run", "-d", "--name", "c1", "--net", "none", "--cpus", "0.2", "/bin/sh", "-c", "while :; do :; done"); code != 0 {
		t.Fatal(errOut)
	}
	var sum float64
	for range 5 {
		out, _, _ := berth(t, root, "stats", "--no-stream", "--format", "{{.CPUPerc}}", "c1")
		n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(out), "%"), 64)
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		sum += n
	}
	if mean := sum / 5; mean < 5 || mean > 40 {
		t.Errorf("with a fifth of a CPU it uses %.0f %%", mean)
	}
}

// A disk's rates hold what reads and writes it, and a running container's new rate holds at once.
func TestDiskRatesHold(t *testing.T) {
	root := newRoot(t)
	sh := func(script string) string {
		out, err := exec.Command("sh", "-c", script).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		t.Skip("no loop devices")
	}
	image := filepath.Join(t.TempDir(), "disk")
	sh("truncate -s 32M " + image)
	device := sh("losetup -f --show " + image)
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", device).Run() })
	if _, errOut, code := berth(t, root, "run", "-d", "--name", "c1", "--net", "none", "--device", device, "--device-write-bps", device+":1m",
		"--device-read-iops", device+":20", "/bin/sleep", "1000"); code != 0 {
		t.Fatal(errOut)
	}
	took := func(dd string) time.Duration {
		begin := time.Now()
		if _, errOut, code := berth(t, root, "exec", "c1", "/bin/sh", "-c", "dd bs=64k "+dd); code != 0 {
			t.Fatal(errOut)
		}
		return time.Since(begin)
	}
	write, read := "if=/dev/zero of="+device+" count=32 oflag=direct", "if="+device+" of=/dev/null count=40 iflag=direct"
	slow := took(write) // 2 MiB
	if slow < 1500*time.Millisecond {
		t.Errorf("2 MiB at 1 MiB/s took %v", slow)
	}
	if d := took(read); d < 1500*time.Millisecond {
		t.Errorf("40 reads at 20 in a second took %v", d)
	}
	if _, errOut, code := berth(t, root, "update", "--device-write-bps", device+":0", "c1"); code != 0 {
		t.Fatal(errOut)
	}
	if fast := took(write); fast > slow/2 {
		t.Errorf("without the limit it took %v, with it %v", fast, slow)
	}
}
