//go:build linux

package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	docker "github.com/moby/moby/api/types/network"

	"github.com/berth-containers/berth/engine/link"
	"github.com/berth-containers/berth/engine/match"
	"github.com/berth-containers/berth/engine/netspec"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/monitor"
	"github.com/berth-containers/berth/network"
)

// NetworkOptions of [Engine.CreateNetwork].
type NetworkOptions = network.Network

// CreateNetwork makes a network.
func (e *Engine) CreateNetwork(o NetworkOptions) (string, error) {
	n, err := e.networks.Create(o)
	if err != nil {
		return "", err
	}
	e.tellNetwork("create", n)
	return n.ID, nil
}

// RepairFirewall puts back what somebody has taken out of the firewall, and reports whether anything was.
func (e *Engine) RepairFirewall() (bool, error) { return e.networks.Repair() }

// Published lists the ports that are published on this host.
func (e *Engine) Published() ([]network.Published, error) { return e.networks.Published() }

// Networks lists networks, with those two that every host has: host and none.
func (e *Engine) Networks(f Filters) ([]docker.Inspect, error) {
	if err := checkFilters(f, "dangling", "driver", "id", "label", "name", "scope", "type"); err != nil {
		return nil, err
	}
	if _, err := e.networks.Get(network.DefaultName); err != nil {
		return nil, err
	}
	all, err := e.networks.List()
	if err != nil {
		return nil, err
	}
	var out []docker.Inspect
	for _, n := range all {
		out = append(out, e.describeNetwork(n))
	}
	out = append(out, netspec.Builtin("host", "host"), netspec.Builtin("none", "null"))
	slices.SortFunc(out, func(a, b docker.Inspect) int { return strings.Compare(a.Name, b.Name) })
	return slices.DeleteFunc(out, func(n docker.Inspect) bool {
		builtin := n.Name == "host" || n.Name == "none" || n.Name == network.DefaultName
		return !f.any("name", func(v string) bool { return strings.Contains(n.Name, v) }) || !f.any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) ||
			!f.any("driver", func(v string) bool { return n.Driver == v }) || !f.any("scope", func(v string) bool { return n.Scope == v }) ||
			!f.any("type", func(v string) bool { return (v == "builtin") == builtin }) || !match.Labels(n.Labels, f["label"]) ||
			!f.any("dangling", func(v string) bool { return (v == "true" || v == "1") == (len(n.Containers) == 0 && !builtin) })
	}), nil
}

// NetworkInspect is what is told of a network: Docker's part, and with verbose the path of its packets.
type NetworkInspect struct {
	docker.Inspect
	Berth *network.Path `json:"Berth,omitempty"`
}

// InspectNetwork describes a network; if verbose is set, with how many addresses are in use and the path of a packet.
func (e *Engine) InspectNetwork(name string, verbose bool) (*NetworkInspect, error) {
	if name == "host" || name == "none" {
		list, err := e.Networks(Filters{"name": {name}})
		if err != nil || len(list) == 0 {
			return nil, err
		}
		return &NetworkInspect{Inspect: list[0]}, nil
	}
	n, err := e.networks.Get(name)
	if err != nil {
		return nil, err
	}
	out := &NetworkInspect{Inspect: e.describeNetwork(n)}
	if !verbose {
		return out, nil
	}
	out.Status = &docker.Status{IPAM: docker.IPAMStatus{Subnets: docker.SubnetStatuses{}}}
	for _, s := range n.Subnets {
		used, free, err := e.networks.Usage(n, s)
		if err != nil {
			return nil, err
		}
		out.Status.IPAM.Subnets[s.Subnet] = docker.SubnetStatus{IPsInUse: used, DynamicIPsAvailable: free}
	}
	out.Berth, err = e.networks.Path(n)
	return out, err
}

func (e *Engine) describeNetwork(n *network.Network) docker.Inspect {
	out := docker.Inspect{Network: docker.Network{Name: n.Name, ID: n.ID, Scope: "local", Driver: n.Driver, EnableIPv4: n.IPv4(), EnableIPv6: n.IPv6(),
		IPAM: docker.IPAM{Driver: "default"}, Internal: n.Internal, Attachable: n.Attachable, Options: n.Options, Labels: n.Labels}, Containers: map[string]docker.EndpointResource{}}
	out.Created = n.Created
	if out.Options == nil {
		out.Options = map[string]string{}
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	for _, s := range n.Subnets {
		out.IPAM.Config = append(out.IPAM.Config, docker.IPAMConfig{Subnet: s.Subnet, IPRange: s.IPRange, Gateway: s.Gateway, AuxAddress: s.Aux})
	}
	endpoints, err := e.networks.Endpoints(n)
	if err != nil {
		return out
	}
	for _, p := range endpoints {
		r := docker.EndpointResource{Name: p.Name, EndpointID: p.Container, IPv4Address: p.Address, IPv6Address: p.Address6}
		_ = r.MacAddress.UnmarshalText([]byte(p.MAC))
		out.Containers[p.Container] = r
	}
	return out
}

// RemoveNetwork deletes a network that no container is in.
func (e *Engine) RemoveNetwork(name string) error {
	if name == network.DefaultName || name == "host" || name == "none" {
		return errs.Text(errs.Permission, name+" is a pre-defined network and cannot be removed")
	}
	n, err := e.networks.Remove(name)
	if err == nil {
		e.tellNetwork("destroy", n)
	}
	return err
}

// Connect puts a container into a further network: at once if it runs, and at each start.
func (c *Container) Connect(name string, s *docker.EndpointSettings) error {
	n, err := c.e.networks.Get(name)
	if err != nil {
		return err
	}
	if mode := c.HostConfig.NetworkMode; mode.IsHost() || mode.IsContainer() {
		return errs.Text(errs.Permission, "container sharing network namespace with another container or host cannot be connected to any other network")
	}
	for _, l := range s.Links {
		if _, _, ok := link.Split(l); !ok {
			return errs.Text(errs.Invalid, "bad format for links: "+l)
		}
	}
	return c.change(func() error { return c.connectTo(n, s) })
}

func (c *Container) connectTo(n *network.Network, s *docker.EndpointSettings) error {
	if c.wants(n) {
		return errs.Text(errs.Permission, fmt.Sprintf("endpoint with name %s already exists in network %s", c.Name, n.Name))
	}
	if c.HostConfig.NetworkMode.IsNone() {
		if c.NetworkingConfig.EndpointsConfig == nil { // a map that is empty: it was disconnected from all
			return errs.Text(errs.Permission, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
		}
		c.HostConfig.NetworkMode = container.NetworkMode(n.Name)
	}
	if c.NetworkingConfig.EndpointsConfig == nil {
		c.NetworkingConfig.EndpointsConfig = map[string]*docker.EndpointSettings{}
	}
	c.NetworkingConfig.EndpointsConfig[n.Name] = s
	if c.Running() {
		if err := c.plug(n, s); err != nil {
			return err
		}
	}
	if err := c.save(); err != nil {
		return err
	}
	c.e.tellNetwork("connect", n, "container", c.ID)
	return nil
}

// plug attaches a running container.
func (c *Container) plug(n *network.Network, s *docker.EndpointSettings) error {
	kind, _ := namespace.ByName("network")
	ns, err := namespace.OpenPath(c.e.netnsPath(c.ID), kind)
	if err != nil {
		return err
	}
	defer ns.Close()
	if _, err := c.leave(n); err != nil { // what a command that was killed has left
		return err
	}
	endpoints, err := c.e.networks.EndpointsOf(c.ID)
	if err != nil {
		return err
	}
	r := network.Request{Network: n.Name, Container: c.ID, Name: c.Name, Files: c.e.nameFiles}
	if err := netspec.Endpoint(&r, s); err != nil {
		return err
	}
	if len(endpoints) == 0 && n.Bridge != "" { // the first of a container that was in no other any more
		if r.Ports, err = c.ports(); err != nil {
			return err
		}
	}
	for i := 0; r.Interface == ""; i++ {
		name := fmt.Sprintf("eth%d", i)
		if !slices.ContainsFunc(endpoints, func(p network.Endpoint) bool { return p.Interface == name }) {
			r.Interface = name
		}
	}
	a, err := c.e.networks.Join(ns, r)
	if err != nil {
		return err
	}
	if err = c.e.records().Add(entry(&a.Endpoints[0])); err == nil {
		err = c.linkIn(n, s)
	}
	if herr := c.hold(a.Held, nil); err == nil {
		err = herr
	}
	if err == nil && len(a.Endpoints[0].Peers) > 0 {
		err = c.ask(monitor.Request{Op: "names"})
	}
	if err != nil {
		_, lerr := c.leave(n)
		return errors.Join(err, lerr)
	}
	return nil
}

// leave takes the container out of a network, if it is in it now.
func (c *Container) leave(n *network.Network) (was bool, err error) {
	c.e.records().DropAliases(c.ID, n.ID)
	held, err := c.e.networks.DetachFrom(c.ID, n)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	if err == nil {
		err = c.hold(nil, held)
	}
	return true, err
}

// wants reports whether the container's configuration has a network.
func (c *Container) wants(n *network.Network) bool {
	is := func(name string) bool {
		found, err := c.e.networks.Get(name)
		return err == nil && found.ID == n.ID
	}
	return is(c.networkMode()) || slices.ContainsFunc(slices.Collect(maps.Keys(c.NetworkingConfig.EndpointsConfig)), is)
}

// Disconnect takes a container out of a network.
func (c *Container) Disconnect(name string) error {
	n, err := c.e.networks.Get(name)
	if err != nil {
		return err
	}
	return c.change(func() error { return c.disconnectFrom(n) })
}

// disconnectFrom forgets the network first: if this process is killed then, the same command still finds the container in it.
func (c *Container) disconnectFrom(n *network.Network) error {
	wanted := c.wants(n)
	if wanted {
		others := map[string]*docker.EndpointSettings{}
		for name, s := range c.NetworkingConfig.EndpointsConfig {
			if found, err := c.e.networks.Get(name); err == nil && found.ID != n.ID {
				others[name] = s
			}
		}
		c.NetworkingConfig.EndpointsConfig = others
		if found, err := c.e.networks.Get(c.networkMode()); err == nil && found.ID == n.ID {
			c.HostConfig.NetworkMode = "none"
			for other := range others {
				c.HostConfig.NetworkMode = container.NetworkMode(other)
			}
		}
		if err := c.save(); err != nil {
			return err
		}
	}
	was, err := c.leave(n)
	if err != nil {
		return err
	}
	if !was && !wanted {
		return errs.Text(errs.Permission, fmt.Sprintf("container %s is not connected to network %s", c.ID, n.Name))
	}
	c.e.tellNetwork("disconnect", n, "container", c.ID)
	return nil
}

// ForceDisconnect takes what is left of a container that is gone, named by its name or id, out of a network.
func (e *Engine) ForceDisconnect(name, container string) error {
	n, err := e.networks.Get(name)
	if err != nil {
		return err
	}
	ends, err := e.networks.AllEndpoints(n)
	if err != nil {
		return err
	}
	for _, p := range ends {
		if p.Name == container || p.Container == container || len(container) > 3 && strings.HasPrefix(p.Container, container) {
			_, err := e.networks.DetachFrom(p.Container, n)
			return err
		}
	}
	return errs.Text(errs.NotFound, fmt.Sprintf("container %s is not connected to network %s", container, n.Name))
}

// LostLinks lists links on this engine's bridges that belong to no container; has is asked for the first eight digits of
// an id.
func (e *Engine) LostLinks(has func(digits string) bool) ([]string, error) {
	return e.networks.LostLinks(has)
}

// Unplug removes such a link.
func (e *Engine) Unplug(link string) { e.networks.Unplug(link) }
