//go:build linux

package engine

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/berth-containers/berth/monitor"
	"github.com/berth-containers/berth/network"
	"github.com/berth-containers/berth/network/dns"
)

// records are the names of containers in networks. The default network has none, as Docker's.
func (e *Engine) records() dns.Records { return dns.Records(filepath.Join(e.state, "dns")) }

// addNames gives an endpoint its names, and returns the files whose removal takes them back.
func (e *Engine) addNames(p *network.Endpoint) (files []string, err error) {
	if p.NetworkName == network.DefaultName {
		return nil, nil
	}
	var addresses []netip.Addr
	for _, a := range []netip.Prefix{p.Address, p.Address6} {
		if a.IsValid() {
			addresses = append(addresses, a.Addr())
		}
	}
	for _, name := range append([]string{p.Name, p.Container[:12]}, p.Aliases...) {
		more, err := e.records().Add(p.Network, name, p.Container, addresses)
		if err != nil {
			return files, err
		}
		files = append(files, more...)
	}
	return files, nil
}

// dropNames removes the names of a container whose monitor could not.
func (e *Engine) dropNames(id string) {
	endpoints, err := e.networks.EndpointsOf(id)
	if err == nil {
		e.dropNamesOf(endpoints)
	}
}

// dropNamesIn removes a container's names in one network.
func (c *Container) dropNamesIn(n *network.Network) {
	endpoints, err := c.e.networks.EndpointsOf(c.ID)
	if err == nil {
		c.e.dropNamesOf(slices.DeleteFunc(endpoints, func(p network.Endpoint) bool { return p.Network != n.ID }))
	}
}

func (e *Engine) dropNamesOf(endpoints []network.Endpoint) {
	for _, p := range endpoints {
		id := p.Container
		for _, name := range append([]string{p.Name, id[:12]}, p.Aliases...) {
			if folded, ok := dns.Fold(name); ok {
				dir := filepath.Join(string(e.records()), p.Network, folded)
				_ = os.Remove(filepath.Join(dir, id))
				_ = os.Remove(dir)
			}
		}
	}
}

// namesServed reports whether names of other containers are answered: in every network that a user has made.
func (c *Container) namesServed() bool {
	if !c.hasBridge() {
		return false
	}
	mode := c.HostConfig.NetworkMode
	if mode != "" && mode != "default" && mode.NetworkName() != network.DefaultName {
		return true
	}
	for name := range c.NetworkingConfig.EndpointsConfig {
		if name != network.DefaultName && name != "default" {
			return true
		}
	}
	return false
}

// names is what the monitor is told about them.
func (c *Container) names(endpoints []network.Endpoint) *monitor.Names {
	if !c.namesServed() {
		return nil
	}
	n := &monitor.Names{Namespace: c.e.netnsPath(c.ID), Zone: dns.Zone{Records: c.e.records(), Hosts: map[string]netip.Addr{}},
		Upstream: dns.Upstream{Servers: c.HostConfig.DNS, File: "/etc/resolv.conf"}}
	for _, p := range endpoints {
		if p.NetworkName != network.DefaultName {
			n.Zone.Networks = append(n.Zone.Networks, p.Network)
		}
		if p.Gateway.IsValid() && !n.Zone.Hosts["host.docker.internal"].IsValid() {
			n.Zone.Hosts["host.docker.internal"] = p.Gateway
		}
	}
	return n
}
