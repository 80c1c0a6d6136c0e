//go:build linux

package cli

import (
	"fmt"
	"os/exec"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/docker/go-units"

	"github.com/berth-containers/berth/cli/row"
	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
)

// statsRow is a line of `stats`.
type statsRow struct {
	BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string

	cache, pressure string
}

// PageCache is what MemUsage leaves out as far as it can be given back, which is not in Docker's output.
func (r statsRow) PageCache() string { return r.cache }

// Pressure is how much of the last ten seconds some process waited for CPU, memory and I/O, which is not in Docker's output.
func (r statsRow) Pressure() string { return r.pressure }

// wideStats is how many columns a terminal has for more than Docker's.
const wideStats = 150

func statsTable(width int) *table {
	t := &table{columns: []column{{"CONTAINER ID", "ID"}, {"NAME", "Name"}, {"CPU %", "CPUPerc"}, {"MEM USAGE / LIMIT", "MemUsage"}, {"MEM %", "MemPerc"}, {"NET I/O", "NetIO"},
		{"BLOCK I/O", "BlockIO"}, {"PIDS", "PIDs"}}, heads: map[string]string{"Container": "CONTAINER", "PageCache": "PAGE CACHE", "Pressure": "PRESSURE CPU / MEM / IO"}}
	if width >= wideStats {
		t.columns = append(t.columns, column{"PAGE CACHE", "PageCache"}, column{"PRESSURE CPU / MEM / IO", "Pressure"})
	}
	return t
}

func newStats(a *app) *cobra.Command {
	var all, once, noTrunc bool
	format := ""
	cmd := &cobra.Command{
		Use: "stats [OPTIONS] [CONTAINER...]", Short: "Display a live stream of container(s) resource usage statistics",
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			for _, name := range args { // one that is not there is an error at once
				if _, err := e.Lookup(name); err != nil {
					return err
				}
			}
			before := map[string]*engine.Usage{}
			for first := true; ; first = false {
				rows, now, err := usageRows(e, args, all, noTrunc, before)
				if err != nil {
					return err
				}
				if !first {
					if !once {
						fmt.Fprint(a.out, "\033[H\033[J") // a fresh screen
					}
					if err := statsTable(a.width()).print(a.out, format, rows); err != nil || once {
						return err
					}
				}
				before = now
				time.Sleep(map[bool]time.Duration{true: 300 * time.Millisecond, false: time.Second}[first])
			}
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "Show all containers (default shows just running)")
	f.BoolVar(&once, "no-stream", false, "Disable streaming stats and only pull the first result")
	f.BoolVar(&noTrunc, "no-trunc", false, "Do not truncate output")
	f.StringVar(&format, "format", "", "Format output using a custom template")
	return cmd
}

// usageRows reads all counters once; what CPU was used is told by the difference to the time before.
func usageRows(e *engine.Engine, names []string, all, noTrunc bool, before map[string]*engine.Usage) (rows []any, now map[string]*engine.Usage, err error) {
	if len(names) == 0 {
		list, err := e.List(engine.ListOptions{All: all})
		if err != nil {
			return nil, nil, err
		}
		for _, s := range list {
			names = append(names, s.ID)
		}
	}
	now = map[string]*engine.Usage{}
	for _, name := range names {
		c, err := e.Lookup(name)
		if err != nil {
			continue // it went away
		}
		r := statsRow{Container: name, ID: c.ID, Name: c.Name, CPUPerc: "0.00%", MemUsage: "0B / 0B", MemPerc: "0.00%", NetIO: "0B / 0B", BlockIO: "0B / 0B", PIDs: "0", cache: "0B", pressure: "--"}
		if !noTrunc {
			r.ID = shortID(r.ID)
		}
		if u, err := c.Usage(); err == nil {
			now[c.ID] = u
			r.fill(u, before[c.ID])
		}
		rows = append(rows, r)
	}
	return rows, now, nil
}

func (r *statsRow) fill(u, before *engine.Usage) {
	if before != nil && u.At.After(before.At) {
		r.CPUPerc = fmt.Sprintf("%.2f%%", 100*float64(u.CPU-before.CPU)/float64(u.At.Sub(before.At)))
	}
	binary := func(n uint64) string { return units.BytesSize(float64(n)) }
	decimal := func(n uint64) string { return humanSize(int64(n)) }
	r.MemUsage = binary(u.Memory) + " / " + binary(u.MemoryLimit)
	if u.MemoryLimit > 0 {
		r.MemPerc = fmt.Sprintf("%.2f%%", 100*float64(u.Memory)/float64(u.MemoryLimit))
	}
	r.NetIO, r.BlockIO = decimal(u.NetIn)+" / "+decimal(u.NetOut), decimal(u.BlockRead)+" / "+decimal(u.BlockWrite)
	r.PIDs = strconv.FormatUint(u.Pids, 10)
	r.cache = binary(u.Cache)
	if p := u.Pressure; p != nil {
		r.pressure = fmt.Sprintf("%.2f%% / %.2f%% / %.2f%%", p[0], p[1], p[2])
	}
}

func newTop(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "top CONTAINER [ps OPTIONS]", Short: "Display the running processes of a container", Args: minArgs(1), DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[0] == "--help" {
				return cmd.Help()
			}
			return a.withContainer(args[0], func(c *engine.Container) error {
				pids, err := c.Top()
				if err != nil {
					return err
				}
				return a.showProcesses(pids, args[1:])
			})
		},
	}
}

// showProcesses runs the host's ps(1) and shows the lines of some processes.
func (a *app) showProcesses(pids []int, options []string) error {
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	out, err := exec.Command("ps", options...).Output()
	if err != nil {
		return errs.New(errs.Unavailable, "run ps", err).WithHint("install procps on the host")
	}
	return row.Processes(a.out, string(out), pids)
}

func newUpdate(a *app) *cobra.Command {
	f := &runFlags{}
	cmd := a.forEach("update", "Update configuration of one or more containers", nil)
	f.registerUpdate(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().NFlag() == 0 {
			return invalid("you must provide one or more flags when using this command")
		}
		o, err := f.updateOptions()
		if err != nil {
			return err
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		return a.each(args, func(name string) error {
			c, err := e.Lookup(name)
			if err == nil {
				err = c.Update(o)
			}
			if err == nil {
				fmt.Fprintln(a.out, name)
			}
			return err
		})
	}
	return cmd
}
