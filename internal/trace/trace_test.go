//go:build linux

package trace

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestStepIsRecordedAndObserved(t *testing.T) {
	Begin("test")
	Reset()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	Observe(w)
	no := errors.New("no")
	if got := Step("mount", "why", "type", "proc", "target", "/a b", "n", 3).Do(func() error { return no }); got != no {
		t.Fatalf("Do returned %v", got)
	}
	Step("clone3", "").Note()
	Observe(nil)
	w.Close()

	rs := Records()
	if len(rs) != 2 || rs[0].String() != `mount type=proc target="/a b" n=3` || rs[0].Err != "no" || rs[0].Process != "test" {
		t.Fatalf("records %+v", rs)
	}
	lines := bufio.NewScanner(r)
	for i := 0; lines.Scan(); i++ {
		var got Record
		if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.String() != rs[i].String() || got.Err != rs[i].Err {
			t.Errorf("line %d: %v, want %v", i, got, rs[i])
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	Reset()
	for i := 0; i < 10*keep; i++ {
		Step("x", "", "i", i).Note()
	}
	rs := Records()
	if len(rs) > keep || rs[len(rs)-1].String() != "x i=5119" {
		t.Fatalf("%d records, last %v", len(rs), rs[len(rs)-1])
	}
}

func TestFaultKillsBeforeTheStep(t *testing.T) {
	if os.Getenv("TRACE_TEST_CHILD") != "" {
		Begin("victim")
		for _, s := range []string{"a", "b", "c"} {
			_ = Step(s, "").Do(func() error { _, err := os.Stdout.WriteString(s); return err })
		}
		os.Exit(0)
	}
	c := exec.Command(os.Args[0], "-test.run=TestFaultKillsBeforeTheStep")
	c.Env = append(os.Environ(), "TRACE_TEST_CHILD=1", "BERTH_FAULT=victim:3")
	out, err := c.Output()
	var ee *exec.ExitError
	if !errors.As(err, &ee) || ee.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("ended with %v, want SIGKILL", err)
	}
	if got := strings.TrimSpace(string(out)); got != "ab" {
		t.Fatalf("steps made: %q, want ab", got)
	}
}
