//go:build linux

package caps

import (
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

func init() { runtime.LockOSThread() } // no goroutine that gives up its powers gets the main thread

func TestNames(t *testing.T) {
	for _, n := range []string{"SYS_ADMIN", "cap_sys_admin", "CAP_SYS_ADMIN"} {
		if i, ok := Number(n); !ok || Name(i) != "CAP_SYS_ADMIN" || i != 21 {
			t.Errorf("%s: %d, %v", n, i, ok)
		}
	}
	s, unknown := Parse([]string{"CAP_CHOWN", "CAP_NEW_ONE", "BPF"})
	if s != 1|1<<39 || len(unknown) != 1 || s.String() != "CAP_CHOWN,CAP_BPF" {
		t.Errorf("%v, unknown %v", s, unknown)
	}
	if Check([]string{"ALL", "chown"}) != nil || Check([]string{"NOPE"}) == nil {
		t.Error("Check is wrong")
	}
}

func TestApply(t *testing.T) {
	done := make(chan string)
	go func() {
		runtime.LockOSThread() // the thread ends with what is left of its powers
		keep, _ := Parse(Default())
		if err := DropBounding(keep); err != nil {
			t.Error(err)
		}
		resource, _ := Parse([]string{"SYS_RESOURCE"})
		if missing, err := (Sets{Bounding: keep, Permitted: keep, Effective: keep}).Apply(); err != nil || missing != 0 {
			t.Errorf("missing %v, %v", missing, err)
		}
		if missing, err := (Sets{Permitted: keep | resource, Effective: keep | resource}).Apply(); err != nil || missing != resource {
			t.Errorf("what is gone came back: missing %v, %v", missing, err)
		}
		b, _ := os.ReadFile("/proc/thread-self/status")
		done <- string(b)
	}()
	status := <-done
	got := strings.Join(regexp.MustCompile(`Cap\w+:\s+\w+`).FindAllString(status, -1), " ")
	want := "CapInh: 0000000000000000 CapPrm: 00000000800405fb CapEff: 00000000800405fb CapBnd: 00000000800405fb CapAmb: 0000000000000000"
	if strings.ReplaceAll(got, "\t", " ") != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
