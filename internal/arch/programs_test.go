package arch

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// programs are the budgets of what cmd/ builds. What a package does before main is counted in allocations: unlike time
// they are the same in each run, and time follows them.
var programs = map[string]struct {
	size        int64 // bytes of the stripped program
	allocations int   // of all packages' initialization
	mustNotLink string
}{
	"berth-runtime": {
		size:        4 * 1024 * 1024, // 160 KB of it answer names, 40 KB take over and rest
		allocations: 600,
		mustNotLink: module + "/image " + module + "/engine " + module + "/cli " + module + "/api " +
			"github.com/spf13 net/http crypto/tls github.com/google github.com/klauspost github.com/vishvananda " +
			"text/template html/template go/parser",
	},
	"berth": {
		size:        20 * 1024 * 1024,
		allocations: 6000,
		mustNotLink: "testing github.com/google/go-cmp github.com/rogpeppe",
	},
}

func command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	return cmd
}

// mains are the folders of the programs.
func mains(t *testing.T) []string {
	t.Helper()
	var dirs []string
	_, all := packages(t)
	for _, dir := range all {
		if within(dir, "cmd") {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func TestProgramsLinkLittle(t *testing.T) {
	for _, dir := range mains(t) {
		name := path.Base(dir)
		budget, ok := programs[name]
		if !ok {
			t.Errorf("%s has no budget: add it to the table", dir)
			continue
		}
		cmd := command(t, "go", "list", "-deps", "./"+dir)
		cmd.Env = append(cmd.Env, "GOOS=linux")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list %s: %v", dir, err)
		}
		for _, linked := range strings.Fields(string(out)) {
			for _, forbidden := range strings.Fields(budget.mustNotLink) {
				if within(linked, forbidden) {
					t.Errorf("%s links %s", name, linked)
				}
			}
		}
	}
}

func TestProgramsAreSmallAndStartWithLittleWork(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the budgets are those of Linux programs")
	}
	for _, dir := range mains(t) {
		budget, ok := programs[path.Base(dir)]
		if !ok {
			continue
		}
		program := filepath.Join(t.TempDir(), path.Base(dir))
		build := command(t, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./"+dir)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", dir, err, out)
		}
		info, err := os.Stat(program)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > budget.size {
			t.Errorf("%s has %d bytes, %d are allowed", dir, info.Size(), budget.size)
		}
		total, report := startAllocations(t, program)
		if total > budget.allocations {
			t.Errorf("%s allocates %d times before main, %d are allowed:\n%s", dir, total, budget.allocations, report)
		}
		t.Logf("%s: %d bytes, %d allocations before main", dir, info.Size(), total)
	}
}

// startAllocations sums what the runtime says of each package's initialization, in lines such as
// "init os @0.11 ms, 0.018 ms clock, 2328 bytes, 12 allocs".
func startAllocations(t *testing.T, program string) (total int, report string) {
	t.Helper()
	cmd := command(t, program, "--version")
	cmd.Env = append(cmd.Env, "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	lines := 0
	for _, line := range strings.Split(string(out), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "init" || fields[len(fields)-1] != "allocs" {
			continue
		}
		n, convErr := strconv.Atoi(fields[len(fields)-2])
		if convErr != nil {
			t.Fatalf("unknown line of inittrace: %s", line)
		}
		lines++
		total += n
		report += line + "\n"
	}
	if lines == 0 {
		t.Fatalf("%s --version reports no initialization: %v\n%s", program, err, out)
	}
	return total, report
}
