//go:build linux

package cli

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/ports"
	"github.com/berth-containers/berth/internal/errs"
)

// portRow is a line of `ports`.
type portRow struct {
	ID, Container, Network, Host, To, Protocol, Reach, Rule, State string
}

func newPorts(a *app) *cobra.Command {
	format, noTrunc := "", false
	cmd := &cobra.Command{
		Use: "ports [OPTIONS] [CONTAINER|PORT[/PROTOCOL]...]", Short: "List published ports, who can reach them, and the rule that says so",
		Long: `List published ports, who can reach them, and the rule that says so.

REACH is who gets there: any (every host that this one has a route to), lan (hosts with private addresses), host (this
host itself), containers (of every network, by an address of this host). STATE says whether the kernel has the rule now.

Of a PORT that no container publishes it is told which program of this host holds it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			rows, err := portRows(e, args, noTrunc)
			if err != nil {
				return err
			}
			t := &table{columns: []column{{"CONTAINER", "Container"}, {"HOST", "Host"}, {"TO", "To"}, {"REACH", "Reach"}, {"STATE", "State"}, {"RULE", "Rule"}},
				heads: map[string]string{"ID": "CONTAINER ID", "Network": "NETWORK", "Protocol": "PROTOCOL"}}
			return t.print(a.out, format, rows)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template: 'table TEMPLATE', 'json', 'TEMPLATE'")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "Do not truncate the output")
	return cmd
}

func portRows(e *engine.Engine, args []string, noTrunc bool) (rows []any, err error) {
	all, err := e.Published()
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, p := range all {
		number := strconv.Itoa(int(p.HostPort))
		wanted := len(args) == 0
		for _, arg := range args {
			if arg == p.Name || arg == number || arg == number+"/"+p.Protocol || len(arg) >= 4 && strings.HasPrefix(p.Container, arg) {
				wanted, found[arg] = true, true
			}
		}
		if !wanted {
			continue
		}
		id, state := p.Container, "open"
		if !noTrunc {
			id = shortID(id)
		}
		if !p.Open {
			state = "the rule is missing"
		}
		rows = append(rows, portRow{id, p.Name, p.Network, net.JoinHostPort(p.Host, number) + "/" + p.Protocol, p.To.String(), p.Protocol,
			strings.Join(p.Reach, ","), p.Rule, state})
	}
	for _, arg := range args {
		if found[arg] {
			continue
		}
		number, protocol, _ := strings.Cut(arg, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || len(arg) >= 12 {
			if _, err := e.Lookup(arg); err != nil {
				return nil, err
			}
			continue // it publishes nothing
		}
		protocols := []string{"tcp", "udp"}
		if protocol != "" {
			if protocols = []string{protocol}; !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
				return nil, invalid("invalid protocol: %s", protocol)
			}
		}
		held := false
		for _, protocol := range protocols {
			if who := ports.Holder(protocol, uint16(n)); who != "" {
				held = true
				rows = append(rows, portRow{Container: "-", Host: fmt.Sprintf("port %d/%s", n, protocol), To: who, Protocol: protocol, Reach: "-", State: "held by a program of this host", Rule: "-"})
			}
		}
		if !held {
			return nil, errs.Text(errs.NotFound, "port "+arg+" is free: no container publishes it, no program of this host holds it")
		}
	}
	return rows, nil
}
