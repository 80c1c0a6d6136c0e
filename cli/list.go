//go:build linux

package cli

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
)

// containerRow is a line of `ps`, with the fields that Docker's templates have.
type containerRow struct {
	Command, CreatedAt, Health, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks, Ports, RunningFor, Size, State, Status string

	labels map[string]string
	reason func() string // looked up when it is asked for
}

// Reason says in a few words why the last run ended, which is not in Docker's output.
func (r containerRow) Reason() string { return r.reason() }

// Label is the value of one label.
func (r containerRow) Label(name string) string { return r.labels[name] }

func newContainerRow(s *docker.Summary, noTrunc bool) containerRow {
	r := containerRow{ID: s.ID, Image: s.Image, Command: fmt.Sprintf("%q", s.Command), State: string(s.State), Status: s.Status, labels: s.Labels}
	created := time.Unix(s.Created, 0)
	r.CreatedAt, r.RunningFor = created.Format("2006-01-02 15:04:05 -0700 MST"), units.HumanDuration(time.Since(created))+" ago"
	if !noTrunc {
		r.ID = shortID(s.ID)
		if command := []rune(s.Command); len(command) > 20 {
			r.Command = fmt.Sprintf("%q", string(command[:19])+"…")
		}
		r.Image = strings.TrimPrefix(strings.TrimPrefix(s.Image, "docker.io/library/"), "docker.io/")
		if strings.HasPrefix(r.Image, "sha256:") {
			r.Image = shortID(r.Image)
		}
	}
	var names []string
	for _, n := range s.Names {
		names = append(names, strings.TrimPrefix(n, "/"))
	}
	r.Names = strings.Join(names, ",")
	var labels, mounts []string
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		labels = append(labels, k+"="+s.Labels[k])
	}
	r.Labels = strings.Join(labels, ",")
	volumes := 0
	for _, m := range s.Mounts {
		name := m.Source
		if m.Name != "" {
			name = m.Name
			volumes++
		}
		if r := []rune(name); !noTrunc && len(r) > 15 {
			name = string(r[:14]) + "…"
		}
		mounts = append(mounts, name)
	}
	r.Mounts, r.LocalVolumes = strings.Join(mounts, ","), fmt.Sprint(volumes)
	r.Networks = strings.Join(slices.Sorted(maps.Keys(s.NetworkSettings.Networks)), ",")
	r.Ports = portsText(s.Ports)
	r.Size = humanSize(s.SizeRw)
	if s.SizeRootFs > 0 {
		r.Size = fmt.Sprintf("%s (virtual %s)", humanSize(s.SizeRw), humanSize(s.SizeRootFs))
	}
	if s.Health != nil {
		r.Health = string(s.Health.Status)
	}
	return r
}

// portsText is the column PORTS: 0.0.0.0:8080->80/tcp.
func portsText(ports []docker.PortSummary) string {
	var out []string
	for _, p := range ports {
		text := fmt.Sprintf("%d/%s", p.PrivatePort, p.Type)
		if p.PublicPort > 0 {
			ip := p.IP
			if !ip.IsValid() {
				ip = netip.IPv4Unspecified()
			}
			text = fmt.Sprintf("%s->%s", netip.AddrPortFrom(ip, p.PublicPort), text)
		}
		out = append(out, text)
	}
	sort.Strings(out)
	return strings.Join(slices.Compact(out), ", ")
}

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
			o.Size = o.Size || strings.Contains(format, ".Size")
			list, err := e.List(o)
			if err != nil {
				return err
			}
			var rows []any
			for i := range list {
				row := newContainerRow(&list[i], noTrunc)
				row.reason = func() string {
					c, err := e.Lookup(list[i].ID)
					if err != nil {
						return "" // it went away meanwhile
					}
					return c.Reason()
				}
				rows = append(rows, row)
			}
			if quiet && format == "" {
				format = "{{.ID}}"
			}
			return containerTable(o.Size).print(a.out, format, rows)
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
	sort.Strings(lines)
	for _, l := range lines {
		fmt.Fprintln(a.out, l)
	}
	return nil
}
