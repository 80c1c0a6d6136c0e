//go:build linux

package engine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	docker "github.com/moby/moby/api/types/network"

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
	for _, name := range []string{"host", "none"} {
		driver := map[string]string{"host": "host", "none": "null"}[name]
		out = append(out, docker.Inspect{Network: docker.Network{Name: name, ID: fixedID(name), Scope: "local", Driver: driver, EnableIPv4: true,
			IPAM: docker.IPAM{Driver: "default"}, Options: map[string]string{}, Labels: map[string]string{}}, Containers: map[string]docker.EndpointResource{}})
	}
	slices.SortFunc(out, func(a, b docker.Inspect) int { return strings.Compare(a.Name, b.Name) })
	return slices.DeleteFunc(out, func(n docker.Inspect) bool {
		builtin := n.Name == "host" || n.Name == "none" || n.Name == network.DefaultName
		return !f.any("name", func(v string) bool { return strings.Contains(n.Name, v) }) || !f.any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) ||
			!f.any("driver", func(v string) bool { return n.Driver == v }) || !f.any("scope", func(v string) bool { return n.Scope == v }) ||
			!f.any("type", func(v string) bool { return (v == "builtin") == builtin }) || !matchLabels(n.Labels, f["label"]) ||
			!f.any("dangling", func(v string) bool { return (v == "true" || v == "1") == (len(n.Containers) == 0 && !builtin) })
	}), nil
}

// fixedID is the id of a network that is no object of ours.
func fixedID(name string) string { return fmt.Sprintf("%064x", []byte(name))[:64] }

// InspectNetwork describes a network.
func (e *Engine) InspectNetwork(name string) (*docker.Inspect, error) {
	if name == "host" || name == "none" {
		list, err := e.Networks(Filters{"name": {name}})
		if err != nil || len(list) == 0 {
			return nil, err
		}
		return &list[0], nil
	}
	n, err := e.networks.Get(name)
	if err != nil {
		return nil, err
	}
	out := e.describeNetwork(n)
	return &out, nil
}

func (e *Engine) describeNetwork(n *network.Network) docker.Inspect {
	out := docker.Inspect{Network: docker.Network{Name: n.Name, ID: n.ID, Scope: "local", Driver: n.Driver, EnableIPv4: true, EnableIPv6: n.IPv6(),
		IPAM: docker.IPAM{Driver: "default"}, Internal: n.Internal, Options: n.Options, Labels: n.Labels}, Containers: map[string]docker.EndpointResource{}}
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
	if c.inNetwork(n.Name) {
		return errs.Text(errs.Permission, fmt.Sprintf("endpoint with name %s already exists in network %s", c.Name, n.Name))
	}
	if c.HostConfig.NetworkMode.IsNone() {
		return errs.Text(errs.Permission, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
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

// plug attaches a running container, and tells its monitor what to undo.
func (c *Container) plug(n *network.Network, s *docker.EndpointSettings) error {
	kind, _ := namespace.ByName("network")
	ns, err := namespace.OpenPath(c.e.netnsPath(c.ID), kind)
	if err != nil {
		return err
	}
	defer ns.Close()
	endpoints, err := c.e.networks.EndpointsOf(c.ID)
	if err != nil {
		return err
	}
	r := network.Request{Network: n.Name, Container: c.ID, Name: c.Name, Aliases: s.Aliases, MAC: s.MacAddress.String()}
	for i := 0; r.Interface == ""; i++ {
		name := fmt.Sprintf("eth%d", i)
		if !slices.ContainsFunc(endpoints, func(p network.Endpoint) bool { return p.Interface == name }) {
			r.Interface = name
		}
	}
	if s.IPAMConfig != nil {
		r.IP, r.IP6 = s.IPAMConfig.IPv4Address, s.IPAMConfig.IPv6Address
	}
	a, err := c.e.networks.Attach(ns, []network.Request{r})
	if err != nil {
		return err
	}
	files, err := c.e.addNames(&a.Endpoints[0])
	undo := monitor.Undo{Files: append(a.Undo.Files, files...), Batches: a.Undo.Batches}
	if err == nil {
		err = c.ask(monitor.Request{Op: "undo", Undo: &undo})
	}
	if err != nil {
		undo.Run()
		return errors.Join(err, c.e.networks.DetachFrom(c.ID, n))
	}
	return nil
}

// Disconnect takes a container out of a network.
func (c *Container) Disconnect(name string) error {
	n, err := c.e.networks.Get(name)
	if err != nil {
		return err
	}
	if !c.inNetwork(n.Name) {
		return errs.Text(errs.Permission, fmt.Sprintf("container %s is not connected to network %s", c.ID, n.Name))
	}
	delete(c.NetworkingConfig.EndpointsConfig, n.Name)
	if mode := c.HostConfig.NetworkMode.NetworkName(); mode == n.Name || mode == "default" && n.Name == network.DefaultName {
		c.HostConfig.NetworkMode = "none"
		for other := range c.NetworkingConfig.EndpointsConfig {
			c.HostConfig.NetworkMode = container.NetworkMode(other)
		}
	}
	if c.Running() {
		c.dropNamesIn(n)
		if err := c.e.networks.DetachFrom(c.ID, n); err != nil {
			return err
		}
	}
	if err := c.save(); err != nil {
		return err
	}
	c.e.tellNetwork("disconnect", n, "container", c.ID)
	return nil
}

// NetworkSettings are what a user says of a new network, as text.
type NetworkSettings struct {
	Name, Driver                   string
	Subnets, Gateways, Ranges, Aux []string
	Labels, Options                map[string]string
	Internal, IPv6                 bool
}

// NewNetworkOptions reads settings. Gateways, ranges and auxiliary addresses belong to the subnet that they lie in.
func NewNetworkOptions(s NetworkSettings) (*NetworkOptions, error) {
	o := &NetworkOptions{Name: s.Name, Driver: s.Driver, Labels: s.Labels, Options: s.Options, Internal: s.Internal}
	bad := func(format string, args ...any) error { return errs.Text(errs.Invalid, fmt.Sprintf(format, args...)) }
	for _, text := range s.Subnets {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, bad("invalid subnet %s: %v", text, err)
		}
		o.Subnets = append(o.Subnets, network.Subnet{Subnet: p.Masked()})
	}
	if s.IPv6 && !slices.ContainsFunc(o.Subnets, func(n network.Subnet) bool { return n.Subnet.Addr().Is6() }) {
		o.Subnets = append(o.Subnets, network.Subnet{Subnet: uniqueLocal(s.Name)})
	}
	find := func(a netip.Addr) *network.Subnet {
		for i := range o.Subnets {
			if o.Subnets[i].Subnet.Contains(a) {
				return &o.Subnets[i]
			}
		}
		return nil
	}
	for _, text := range s.Gateways {
		a, err := netip.ParseAddr(text)
		if err != nil || find(a) == nil {
			return nil, bad("no matching subnet for gateway %s", text)
		}
		find(a).Gateway = a
	}
	for _, text := range s.Ranges {
		p, err := netip.ParsePrefix(text)
		if err != nil || find(p.Addr()) == nil {
			return nil, bad("no matching subnet for range %s", text)
		}
		find(p.Addr()).IPRange = p.Masked()
	}
	for _, text := range s.Aux {
		name, address, _ := strings.Cut(text, "=")
		a, err := netip.ParseAddr(address)
		if err != nil || find(a) == nil {
			return nil, bad("no matching subnet for aux-address %s", text)
		}
		n := find(a)
		if n.Aux == nil {
			n.Aux = map[string]netip.Addr{}
		}
		n.Aux[name] = a
	}
	for key, value := range s.Options {
		switch key {
		case "com.docker.network.driver.mtu", "mtu":
			n, err := strconv.Atoi(value)
			if err != nil {
				return nil, bad("invalid value of %s: %s", key, value)
			}
			o.MTU = n
		case "com.docker.network.bridge.name":
			o.Bridge = value
		case "com.docker.network.bridge.enable_ip_masquerade":
			o.NoMasq = value == "false"
		}
	}
	return o, nil
}

// uniqueLocal chooses a subnet of IPv6 that nobody else has (RFC 4193), by the network's name.
func uniqueLocal(name string) netip.Prefix {
	sum := sha256.Sum256([]byte(name))
	b := [16]byte{0xfd}
	copy(b[1:8], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(b), 64)
}
