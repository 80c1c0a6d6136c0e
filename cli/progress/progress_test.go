//go:build linux

package progress

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-containers/berth/engine"
)

// screen is what a terminal shows after what was written to it: lines, and the sequences that draw uses.
func screen(t *testing.T, out string) (lines []string) {
	row := 0
	for _, piece := range strings.SplitAfter(out, "\n") {
		if rest, ok := strings.CutPrefix(piece, "\x1b["); ok && strings.Contains(rest[:min(4, len(rest))], "A") {
			up := 0
			if _, err := fmt.Sscanf(rest, "%dA", &up); err != nil || up > row {
				t.Fatalf("%d lines up from line %d", up, row)
			}
			row -= up
			piece = rest[strings.IndexByte(rest, 'A')+1:]
		}
		if piece == "" {
			continue
		}
		for len(lines) <= row {
			lines = append(lines, "")
		}
		lines[row] = strings.TrimSuffix(strings.TrimPrefix(piece, "\x1b[2K"), "\n")
		row++
	}
	return lines
}

func TestBars(t *testing.T) {
	var out bytes.Buffer
	d := New(&out, false)
	d.size = func() (int, int) { return 120, 4 }
	for i := range 5 {
		d.tell(engine.Progress{Part: fmt.Sprintf("%012d", i), State: "Pulling fs layer"})
	}
	d.tell(engine.Progress{Part: "000000000001", State: "Downloading", Done: 1000, Total: 2000})
	d.parts[1].begin = time.Now().Add(-2 * time.Second)
	d.last = time.Time{}
	d.tell(engine.Progress{Part: "000000000001", State: "Downloading", Done: 2000, Total: 2000})
	if got := screen(t, out.String()); len(got) != 3 || got[1] != "000000000001: Downloading ["+strings.Repeat("=", 50)+">]      2kB/2kB  500B/s" {
		t.Errorf("the screen shows %q", got)
	}
	for _, i := range []int{1, 0, 2, 3, 4} {
		d.tell(engine.Progress{Part: fmt.Sprintf("%012d", i), State: "Pull complete"})
	}
	got := screen(t, out.String())
	seen := map[string]bool{}
	for _, line := range got {
		seen[line] = true
	}
	for i := range 5 {
		if !seen[fmt.Sprintf("%012d: Pull complete", i)] {
			t.Errorf("part %d is not on the screen: %q", i, got)
		}
	}
	if len(got) != 5 {
		t.Errorf("the screen shows %q", got)
	}
}

func TestNarrowTerminal(t *testing.T) {
	p := part{Progress: engine.Progress{Part: "a", State: "Downloading", Done: 1, Total: 1 << 40}}
	if got := p.line(200, p.begin); !strings.Contains(got, "[>"+strings.Repeat(" ", 50)+"]") {
		t.Errorf("wide: %q", got)
	}
	if got := p.line(80, p.begin); got != "a: Downloading       1B/1.1TB" {
		t.Errorf("narrow: %q", got)
	}
	if got := p.line(10, p.begin); got != "a: Downlo" {
		t.Errorf("narrower: %q", got)
	}
}

func TestPlainLines(t *testing.T) {
	var out bytes.Buffer
	tell := New(&out, false).Teller()
	tell(engine.Progress{Part: "a", State: "Pulling fs layer"})
	tell(engine.Progress{Part: "a", State: "Downloading", Done: 1, Total: 2})
	tell(engine.Progress{Part: "a", State: "Pull complete"})
	if out.String() != "a: Pulling fs layer\na: Pull complete\n" {
		t.Errorf("got %q", out.String())
	}
	if New(&out, true).Teller() != nil {
		t.Error("quiet, and it tells")
	}
}
