//go:build linux

package cli

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/netspec"
	"github.com/berth-containers/berth/internal/errs"
)

// networkFlags are those of `network create`.
type networkFlags struct {
	driver, ipam                                         string
	subnets, gateways, ranges, aux, labels, opt, ipamOpt listFlag
	internal, ipv4, ipv6, attachable                     bool
}

func newNetworkCreate(a *app) *cobra.Command {
	f := &networkFlags{}
	cmd := &cobra.Command{
		Use: "create [OPTIONS] NETWORK", Short: "Create a network", Args: exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := netspec.Network(netspec.Settings{Name: args[0], Driver: f.driver, Subnets: f.subnets, Gateways: f.gateways, Ranges: f.ranges, Aux: f.aux,
				Labels: pairs(f.labels), Options: pairs(f.opt), Internal: f.internal, NoIPv4: !f.ipv4, IPv6: f.ipv6, Attachable: f.attachable,
				IPAMDriver: f.ipam, IPAMOptions: f.ipamOpt})
			if err != nil {
				return err
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			id, err := e.CreateNetwork(*o)
			if err == nil {
				fmt.Fprintln(a.out, id)
			}
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVarP(&f.driver, "driver", "d", "bridge", "Driver to manage the Network: bridge, overlay, macvlan, ipvlan")
	fs.Var(&f.subnets, "subnet", "Subnet in CIDR format that represents a network segment")
	fs.Var(&f.gateways, "gateway", "IPv4 or IPv6 Gateway for the master subnet")
	fs.Var(&f.ranges, "ip-range", "Allocate container ip from a sub-range")
	fs.Var(&f.aux, "aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver")
	fs.Var(&f.labels, "label", "Set metadata on a network")
	fs.VarP(&f.opt, "opt", "o", "Set driver specific options: mtu=, parent= (macvlan, ipvlan), peers= or peers-file= (overlay), …")
	fs.BoolVar(&f.internal, "internal", false, "Restrict external access to the network")
	fs.BoolVar(&f.ipv4, "ipv4", true, "Enable IPv4 networking")
	fs.BoolVar(&f.ipv6, "ipv6", false, "Enable IPv6 networking")
	fs.StringVar(&f.ipam, "ipam-driver", "default", "IP Address Management Driver: default")
	fs.Var(&f.ipamOpt, "ipam-opt", "Set IPAM driver specific options (the default one has none)")
	fs.BoolVar(&f.attachable, "attachable", false, "Enable manual container attachment (containers join every network; inspect tells that it was asked for)")
	return cmd
}

// networkRow is a line of `network ls`.
type networkRow struct{ ID, Name, Driver, Scope, IPv6, Internal, Labels, CreatedAt string }

func newNetworkList(a *app) *cobra.Command {
	quiet, noTrunc, format := false, false, ""
	var filters listFlag
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Short: "List networks", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			fl, err := parseFilters(filters)
			if err != nil {
				return err
			}
			list, err := e.Networks(fl)
			if err != nil {
				return err
			}
			var rows []any
			for _, n := range list {
				id := n.ID
				if !noTrunc {
					id = shortID(id)
				}
				rows = append(rows, networkRow{id, n.Name, n.Driver, n.Scope, strconv.FormatBool(n.EnableIPv6), strconv.FormatBool(n.Internal), joinPairs(n.Labels),
					n.Created.Format("2006-01-02 15:04:05.999999999 -0700 MST")})
			}
			if quiet && format == "" {
				format = "{{.ID}}"
			}
			t := &table{columns: []column{{"NETWORK ID", "ID"}, {"NAME", "Name"}, {"DRIVER", "Driver"}, {"SCOPE", "Scope"}},
				heads: map[string]string{"IPv6": "IPV6", "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT"}}
			return t.print(a.out, format, rows)
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display network IDs")
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "Do not truncate the output")
	cmd.Flags().StringVar(&format, "format", "", "Format output using a custom template")
	cmd.Flags().VarP(&filters, "filter", "f", "Provide filter values (e.g. \"driver=bridge\")")
	return cmd
}

func findNetwork(e *engine.Engine, name string) (any, error) { return e.InspectNetwork(name, false) }

func newNetworkInspect(a *app) *cobra.Command {
	verbose := false
	cmd := inspectCommand(a, "inspect [OPTIONS] NETWORK [NETWORK...]", "Display detailed information on one or more networks",
		func(e *engine.Engine, name string) (any, error) { return e.InspectNetwork(name, verbose) })
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "Also how many addresses are in use, and the path of a packet")
	return cmd
}

func newNetworkRemove(a *app) *cobra.Command {
	force := false
	cmd := a.onEach("rm NETWORK [NETWORK...]", "Remove one or more networks", func(e *engine.Engine, name string) error {
		err := e.RemoveNetwork(name)
		if force && errs.Is(err, errs.NotFound) {
			return nil
		}
		return err
	})
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Do not error if the network does not exist")
	return cmd
}

func newNetworkRepair(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "repair", Short: "Put back what of the firewall somebody has flushed", Args: noArgs,
		Long: `Put back what of the firewall somebody has flushed, and the rules beside those of iptables and firewalld.

The monitor of a running container that has a network notices when rules are deleted, and does this by itself.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			changed, err := e.RepairFirewall()
			if err == nil && changed {
				fmt.Fprintln(a.out, "the firewall was put back")
			} else if err == nil {
				fmt.Fprintln(a.out, "the firewall is whole")
			}
			return err
		},
	}
}

func newNetworkConnect(a *app) *cobra.Command {
	var aliases, links, linkLocal, driverOpts listFlag
	ip, ip6, priority := "", "", 0
	cmd := &cobra.Command{
		Use: "connect [OPTIONS] NETWORK CONTAINER", Short: "Connect a container to a network", Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := &network.EndpointSettings{Aliases: aliases, Links: links, GwPriority: priority}
			if len(driverOpts) > 0 {
				s.DriverOpts = pairs(driverOpts)
			}
			texts := append([]string{ip, ip6}, linkLocal...)
			if strings.Join(texts, "") != "" {
				s.IPAMConfig = &network.EndpointIPAMConfig{}
			}
			for i, text := range texts {
				if text == "" {
					continue
				}
				parsed, err := netip.ParseAddr(text)
				if err != nil || i < 2 && parsed.Is4() != (i == 0) || i >= 2 && !parsed.IsLinkLocalUnicast() {
					return invalid("invalid IP address: %s", text)
				}
				switch i {
				case 0:
					s.IPAMConfig.IPv4Address = parsed
				case 1:
					s.IPAMConfig.IPv6Address = parsed
				default:
					s.IPAMConfig.LinkLocalIPs = append(s.IPAMConfig.LinkLocalIPs, parsed)
				}
			}
			return a.withContainer(args[1], func(c *engine.Container) error { return c.Connect(args[0], s) })
		},
	}
	f := cmd.Flags()
	f.Var(&aliases, "alias", "Add network-scoped alias for the container")
	f.StringVar(&ip, "ip", "", "IPv4 address (e.g., \"172.30.100.104\")")
	f.StringVar(&ip6, "ip6", "", "IPv6 address (e.g., \"2001:db8::33\")")
	f.Var(&linkLocal, "link-local-ip", "Add a link-local address for the container")
	f.Var(&links, "link", "Add link to another container: CONTAINER[:ALIAS]")
	f.Var(&driverOpts, "driver-opt", "Option of the endpoint: "+netspec.EndpointOptions)
	f.IntVar(&priority, "gw-priority", 0, "Highest gw-priority provides the default gateway. Accepts positive and negative values")
	return cmd
}

func newNetworkDisconnect(a *app) *cobra.Command {
	force := false
	cmd := &cobra.Command{
		Use: "disconnect [OPTIONS] NETWORK CONTAINER", Short: "Disconnect a container from a network", Args: exactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			c, err := e.Lookup(strings.TrimSpace(args[1]))
			if force && errs.Is(err, errs.NotFound) {
				return e.ForceDisconnect(args[0], args[1])
			}
			if err != nil {
				return err
			}
			return c.Disconnect(args[0])
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "Also disconnect what is left of a container that is gone")
	return cmd
}

// withContainer does something with a container.
func (a *app) withContainer(name string, do func(c *engine.Container) error) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	c, err := e.Lookup(strings.TrimSpace(name))
	if err != nil {
		return err
	}
	return do(c)
}
