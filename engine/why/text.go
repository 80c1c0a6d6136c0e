//go:build linux

package why

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Write writes the report for people.
func (r *Report) Write(out io.Writer) {
	fmt.Fprintf(out, "%s (%s): %s\n\n  %s\n  (%s)\n", r.Name, r.ID[:12], r.State, r.Verdict, r.Certainty)
	block := func(head string, lines []string) {
		for i, line := range lines {
			if i == 0 {
				fmt.Fprintf(out, "\n%s\n", head)
			}
			fmt.Fprintf(out, "  %s\n", line)
		}
	}
	block("What to do", r.Fix)
	var facts, happened []string
	widest := 0
	for _, f := range r.Facts {
		widest = max(widest, len(f.What))
	}
	for _, f := range r.Facts {
		facts = append(facts, fmt.Sprintf("%-*s  %s", widest, f.What, f.Value))
	}
	for _, h := range r.History {
		happened = append(happened, strings.TrimSpace(fmt.Sprintf("%s  %s %s", h.Time.Local().Format(time.DateTime), h.Action, h.Detail)))
	}
	block("What is known", facts)
	block("What happened", happened)
	block("Its last words", r.Log)
}
