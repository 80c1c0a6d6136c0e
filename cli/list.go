//go:build linux

package cli

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/cli/row"
	"github.com/berth-containers/berth/engine"
)

func containerTable(size bool) *table {
	t := &table{
		columns: []column{{"CONTAINER ID", "ID"}, {"IMAGE", "Image"}, {"COMMAND", "Command"}, {"CREATED", "RunningFor"}, {"STATUS", "Status"}, {"PORTS", "Ports"}, {"NAMES", "Names"}},
		heads: map[string]string{"CreatedAt": "CREATED AT", "Labels": "LABELS", "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS",
			"Size": "SIZE", "State": "STATE", "Health": "HEALTH", "Reason": "REASON"},
	}
	if size {
		t.columns = append(t.columns, column{"SIZE", "Size"})
	}
	return t
}

func newList(a *app) *cobra.Command {
	var quiet, noTrunc, latest bool
	var filters listFlag
	format := ""
	o := engine.ListOptions{}
	cmd := &cobra.Command{
		Use: "ps [OPTIONS]", Short: "List containers", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			if o.Filters, err = parseFilters(filters); err != nil {
				return err
			}
			if latest {
				o.Limit = 1
			}
			o.Limit = max(o.Limit, 0)
			if quiet && format != "" {
				fmt.Fprintln(a.err, "WARNING: Ignoring custom format, because both --format and --quiet are set.")
			}
			return a.listContainers(e, o, containerFormat(format, quiet, &o.Size), noTrunc)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.All, "all", "a", false, "Show all containers (default shows just running)")
	f.BoolVarP(&quiet, "quiet", "q", false, "Only display container IDs")
	f.BoolVarP(&o.Size, "size", "s", false, "Display total file sizes")
	f.BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	f.BoolVarP(&latest, "latest", "l", false, "Show the latest created container (includes all states)")
	f.IntVarP(&o.Limit, "last", "n", -1, "Show n last created containers (includes all states)")
	f.VarP(&filters, "filter", "f", "Filter output based on conditions provided")
	f.StringVar(&format, "format", "", "Format output using a custom template: 'table', 'table TEMPLATE', 'json', 'TEMPLATE'")
	return cmd
}

// containerFormat is the format that is printed. One that shows the size asks for it.
func containerFormat(format string, quiet bool, size *bool) string {
	if quiet {
		return "{{.ID}}"
	}
	*size = *size || strings.Contains(format, ".Size")
	if format == "raw" {
		return row.Raw(*size)
	}
	return format
}

func (a *app) listContainers(e *engine.Engine, o engine.ListOptions, format string, noTrunc bool) error {
	list, err := e.List(o)
	if err != nil {
		return err
	}
	lines := make([]row.Container, len(list))
	for i := range list {
		lines[i] = row.NewContainer(&list[i], noTrunc, func() string {
			c, err := e.Lookup(list[i].ID)
			if err != nil {
				return "" // it went away meanwhile
			}
			return c.Reason()
		})
	}
	if width := a.width(); width > 0 && format == "" && !noTrunc {
		row.Fit(lines, o.Size, width)
	}
	var rows []any
	for _, l := range lines {
		rows = append(rows, l)
	}
	return containerTable(o.Size).print(a.out, format, rows)
}

func newPort(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "port CONTAINER [PRIVATE_PORT[/PROTO]]", Short: "List port mappings or a specific mapping for the container", Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withContainer(args[0], func(c *engine.Container) error { return a.showPorts(c, args) })
		},
	}
}

// showPorts prints where the ports of a container are published; args are its name and perhaps one port.
func (a *app) showPorts(c *engine.Container, args []string) error {
	var lines []string
	for port, bindings := range c.Inspect(false).NetworkSettings.Ports {
		for _, b := range bindings {
			ip := b.HostIP
			if !ip.IsValid() {
				ip = netip.IPv4Unspecified()
			}
			host := ip.String()
			if ip.Is6() {
				host = "[" + host + "]"
			}
			if len(args) == 1 {
				lines = append(lines, fmt.Sprintf("%s -> %s:%s", port, host, b.HostPort))
			} else if args[1] == port.String() || args[1] == fmt.Sprint(port.Num()) && port.Proto() == "tcp" {
				lines = append(lines, host+":"+b.HostPort)
			}
		}
	}
	if len(args) > 1 && len(lines) == 0 {
		return invalid("no public port '%s' published for %s", args[1], args[0])
	}
	slices.SortFunc(lines, func(a, b string) int { // 80 comes before 443
		var m, n int
		_, _ = fmt.Sscan(a, &m)
		_, _ = fmt.Sscan(b, &n)
		return cmp.Or(m-n, strings.Compare(a, b))
	})
	for _, l := range lines {
		fmt.Fprintln(a.out, l)
	}
	return nil
}
