//go:build linux

package test

import (
	"strconv"
	"strings"
	"testing"
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
