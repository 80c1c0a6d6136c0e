//go:build linux

// Package progress shows what becomes of the parts of a transfer in Docker's words: on a terminal each part has a line
// with a bar, which is drawn again and again; elsewhere what changes is a line.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/linux/tty"
)

const (
	barWidth = 50
	barNeeds = 110                    // columns; a narrower terminal has numbers alone
	redraw   = 100 * time.Millisecond // at most so often, while nothing changes but numbers
)

// Display is where a transfer is shown.
type Display struct {
	mu    sync.Mutex
	w     io.Writer
	size  func() (width, height int) // of the terminal; nil: it is none
	parts []*part                    // in the order in which they were heard of
	drawn int                        // lines that the next drawing replaces
	last  time.Time
}

type part struct {
	engine.Progress
	begin time.Time // of its first bytes
	first int64     // how many were there then
}

// New shows a transfer on w. Nil shows nothing: the Tell of a nil Display is nil.
func New(w io.Writer, quiet bool) *Display {
	if quiet {
		return nil
	}
	d := &Display{w: w}
	if f, ok := w.(*os.File); ok && tty.IsTerminal(f) {
		d.size = func() (int, int) {
			width, height, err := tty.GetSize(f)
			if err != nil || width == 0 || height == 0 {
				return 80, 24
			}
			return int(width), int(height)
		}
	}
	return d
}

// Teller is what a transfer calls; nil, when nothing is shown.
func (d *Display) Teller() func(engine.Progress) {
	if d == nil {
		return nil
	}
	return d.tell
}

func (d *Display) tell(p engine.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.size == nil {
		if p.Total == 0 {
			fmt.Fprintln(d.w, text(p))
		}
		return
	}
	now := time.Now()
	if d.note(p, now) || now.Sub(d.last) >= redraw {
		d.last = now
		d.draw(now)
	}
}

// note keeps what is new, and reports whether that is more than a number.
func (d *Display) note(p engine.Progress, now time.Time) (changed bool) {
	for _, have := range d.parts {
		if have.Part != p.Part {
			continue
		}
		changed = have.State != p.State
		if changed && p.Total > 0 {
			have.begin, have.first = now, p.Done
		}
		have.Progress = p
		return changed
	}
	d.parts = append(d.parts, &part{Progress: p, begin: now, first: p.Done})
	return true
}

// ended are the states after which nothing comes.
func (p *part) ended() bool {
	switch p.State {
	case "", "Pull complete", "Already exists", "Pushed", "Layer already exists":
		return true
	}
	return strings.HasPrefix(p.State, "Pulling from ")
}

func text(p engine.Progress) string {
	if p.State == "" {
		return p.Part
	}
	return p.Part + ": " + p.State
}

// draw replaces what was drawn before. What does not fit on the terminal any more is written once and left behind, if it
// is ended, or else left out.
func (d *Display) draw(now time.Time) {
	width, height := d.size()
	var b strings.Builder
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", d.drawn)
	}
	room := max(height-1, 1)
	var rest []*part
	for i, p := range d.parts {
		if len(d.parts)-i+len(rest) > room && p.ended() {
			b.WriteString("\x1b[2K" + p.line(width, now) + "\n")
			continue
		}
		rest = append(rest, p)
	}
	d.parts = rest
	shown := rest[:min(len(rest), room)]
	for _, p := range shown {
		b.WriteString("\x1b[2K" + p.line(width, now) + "\n")
	}
	d.drawn = len(shown)
	_, _ = io.WriteString(d.w, b.String())
}

func (p *part) line(width int, now time.Time) string {
	text := text(p.Progress)
	if p.Total > 0 {
		if width > barNeeds {
			full := int(min(p.Done, p.Total) * barWidth / p.Total)
			text += " [" + strings.Repeat("=", full) + ">" + strings.Repeat(" ", barWidth-full) + "]"
		}
		text += fmt.Sprintf(" %8s/%s", units.HumanSize(float64(p.Done)), units.HumanSize(float64(p.Total)))
		if took := now.Sub(p.begin).Seconds(); took > 0.5 {
			text += fmt.Sprintf("  %s/s", units.HumanSize(float64(p.Done-p.first)/took))
		}
	}
	return text[:min(len(text), max(width-1, 1))]
}
