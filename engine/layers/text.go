//go:build linux

package layers

import (
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
)

func size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

func short(id string) string { return strings.TrimPrefix(id, "sha256:")[:12] }

// Write draws an image for people, in lines of at most so many columns; 0 is any number.
func (t *Image) Write(w io.Writer, width int) {
	line := func(text string) {
		if r := []rune(text); width > 0 && len(r) > width {
			text = string(r[:width-1]) + "…"
		}
		fmt.Fprintln(w, text)
	}
	waste := ""
	if t.Wasted > 0 {
		waste = fmt.Sprintf(", %s of it wasted (%d%%)", size(t.Wasted), 100*t.Wasted/t.Size)
	}
	line(strings.TrimSpace(fmt.Sprintf("%s %s", strings.Join(t.Names, " "), short(t.ID))) + "  " + size(t.Size) + waste)
	for i := range t.Layers {
		l, branch, under := &t.Layers[i], "├── ", "│   "
		if i == len(t.Layers)-1 {
			branch, under = "└── ", "    "
		}
		wasted := ""
		if l.Wasted > 0 {
			wasted = size(l.Wasted) + " wasted"
		}
		line(strings.TrimRight(fmt.Sprintf("%s%d  %s  %8s  %-14s  %s", branch, i+1, short(l.DiffID), size(l.Size), wasted, strings.Join(strings.Fields(l.CreatedBy), " ")), " "))
		var users []string
		if len(l.Images) > 0 {
			users = append(users, "also of "+strings.Join(l.Images, ", "))
		}
		if len(l.Containers) > 0 {
			users = append(users, "under "+strings.Join(l.Containers, ", "))
		}
		if len(users) > 0 {
			line(under + "   " + strings.Join(users, "; "))
		}
	}
	for i, h := range t.Hidden {
		if h.Size == 0 {
			break
		}
		if i == 0 {
			line("Wasted:")
		}
		how := "replaced"
		if h.Deleted {
			how = "deleted"
		}
		line(fmt.Sprintf("  %8s  %s  of layer %d, %s by %d", size(h.Size), h.Path, h.Layer+1, how, h.By+1))
	}
}
