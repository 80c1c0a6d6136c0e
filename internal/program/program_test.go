//go:build linux

package program

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		script, out, err string
		timeout          time.Duration
	}{
		{"cat; echo $A; pwd", "input1\n/", "", time.Minute}, {"echo bad >&2; exit 3", "bad", "exit status 3", 0}, {"sleep 100", "", "did not end within 50ms", 50 * time.Millisecond},
		{"sleep 3 & echo left", "left", "", 0},
	} {
		p := Program{Path: "sh", Args: []string{"sh", "-c", c.script}, Env: []string{"A=1"}, Dir: "/", Input: []byte("input"), Timeout: c.timeout}
		out, err := p.Run()
		if string(out) != c.out || err == nil != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", c.script, out, err)
		}
	}
	if _, err := (&Program{Path: "no-such-program"}).Run(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
}
