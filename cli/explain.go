//go:build linux

package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// narrator shows the steps of a start while they happen, whichever process makes them: all write to one pipe.
type narrator struct {
	a      *app
	write  *os.File
	done   chan struct{}
	asJSON bool
	timing bool
	began  time.Duration
	seen   []trace.Record
	silent bool
}

// narrate begins to show steps, if the flags ask for it. A nil narrator shows nothing.
func (a *app) narrate(f *runFlags) (*narrator, error) {
	if f.explainAs == "" && !f.timing {
		return nil, nil
	}
	if f.explainAs != "" && f.explainAs != "text" && f.explainAs != "json" {
		return nil, invalid("--explain: %q is not text or json", f.explainAs)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errs.Wrap("show steps", err)
	}
	n := &narrator{a: a, write: w, done: make(chan struct{}), asJSON: f.explainAs == "json", timing: f.timing, silent: f.explainAs == ""}
	trace.Observe(w)
	go n.read(r)
	return n, nil
}

func (n *narrator) read(r io.ReadCloser) {
	defer close(n.done)
	defer r.Close()
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), 4<<20)
	for in.Scan() {
		var rec trace.Record
		if json.Unmarshal(in.Bytes(), &rec) != nil {
			continue
		}
		n.seen = append(n.seen, rec)
		if n.began == 0 {
			n.began = rec.At
		}
		switch {
		case n.silent:
		case n.asJSON:
			fmt.Fprintf(n.a.err, "%s\n", in.Bytes())
		default:
			writeStep(n.a.err, rec, n.began)
		}
	}
}

// end waits until all steps of the start were shown.
func (n *narrator) end() {
	if n == nil {
		return
	}
	trace.Observe(nil)
	n.write.Close()
	<-n.done
	if n.timing {
		writeTiming(n.a.err, n.seen)
	}
}

// fail shows the steps up to the one that failed.
func (n *narrator) fail(err error) error {
	n.end()
	return err
}

// writeStep is one step, as text: when, how long, who, what, and why.
func writeStep(w io.Writer, r trace.Record, began time.Duration) {
	fmt.Fprintf(w, "%8.2f ms %+7.2f  %-8s %s", ms(r.At-began), ms(r.Took), r.Process, r.Name)
	for _, arg := range r.Args {
		value := arg.Value
		if strings.ContainsAny(value, " \t\n") {
			value = fmt.Sprintf("%q", value)
		}
		if value != "" {
			fmt.Fprintf(w, " %s=%s", arg.Key, value)
		}
	}
	if r.Err != "" {
		fmt.Fprintf(w, "\n%35s failed: %s", "", r.Err)
	}
	if r.Why != "" {
		fmt.Fprintf(w, "\n%35s %s", "", r.Why)
	}
	fmt.Fprintln(w)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// writeTiming sums the time of steps by their names, the longest first.
func writeTiming(w io.Writer, steps []trace.Record) {
	if len(steps) == 0 {
		return
	}
	type sum struct {
		name  string
		count int
		took  time.Duration
	}
	var sums []*sum
	byName := map[string]*sum{}
	first, last := steps[0].At, steps[0].At
	for _, r := range steps {
		name := r.Process + " " + r.Name
		s := byName[name]
		if s == nil {
			s = &sum{name: name}
			byName[name] = s
			sums = append(sums, s)
		}
		s.count++
		s.took += r.Took
		first, last = min(first, r.At), max(last, r.At+r.Took)
	}
	slices.SortStableFunc(sums, func(a, b *sum) int { return int(b.took - a.took) })
	fmt.Fprintf(w, "%10s %6s  %s\n", "ms", "times", "step")
	for _, s := range sums {
		fmt.Fprintf(w, "%10.3f %6d  %s\n", ms(s.took), s.count, s.name)
	}
	fmt.Fprintf(w, "%10.3f         from the first step to the last\n", ms(last-first))
}

func newExplain(a *app) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "explain [OPTIONS] CONTAINER", Short: "Tell how a running container was started, step by step", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainer(args[0], func(c *engine.Container) error {
				steps, err := c.Steps()
				if err != nil {
					return err
				}
				for _, s := range steps {
					if format != "json" {
						writeStep(a.out, s, steps[0].At)
						continue
					}
					b, err := json.Marshal(s)
					if err != nil {
						return err
					}
					fmt.Fprintf(a.out, "%s\n", b)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}
