package row

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Processes writes those lines of ps(1)'s output that are of some processes, in columns as `top` has them. Lines of
// threads, which have a dash for their number, belong to the process before them.
func Processes(w io.Writer, output string, pids []int) error {
	head, rest, _ := strings.Cut(output, "\n")
	titles := strings.Fields(head)
	column := slices.Index(titles, "PID")
	if column < 0 {
		return fmt.Errorf("Couldn't find PID field in ps output") //nolint:staticcheck // Docker's words
	}
	tw := tabwriter.NewWriter(w, 20, 1, 3, ' ', 0)
	fmt.Fprintln(tw, strings.Join(titles, "\t"))
	wanted := false
	for _, line := range strings.Split(rest, "\n") {
		fields := strings.Fields(line)
		if len(fields) < len(titles) {
			continue
		}
		if fields[column] != "-" {
			pid, err := strconv.Atoi(fields[column])
			if err != nil {
				return fmt.Errorf("Unexpected pid '%s': %w", fields[column], err) //nolint:staticcheck // Docker's words
			}
			wanted = slices.Contains(pids, pid)
		}
		if wanted {
			last := len(titles) - 1 // what is left over is the last column's
			fmt.Fprintln(tw, strings.Join(append(fields[:last:last], strings.Join(fields[last:], " ")), "\t"))
		}
	}
	return tw.Flush()
}
