//go:build linux

package engine

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/monitor"
	"github.com/berth-containers/berth/network"
	"github.com/berth-containers/berth/network/dns"
	"github.com/berth-containers/berth/network/egress"
)

// records are the names of containers in networks, the default one, too.
func (e *Engine) records() dns.Records { return dns.Records(filepath.Join(e.state, "dns")) }

// addNames gives an endpoint its names, and returns the files whose removal takes them back.
func (e *Engine) addNames(p *network.Endpoint) (files []string, err error) {
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
	for _, a := range addresses {
		more, err := e.records().AddReverse(p.Network, a, p.Container, p.Name+"."+p.NetworkName)
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
		for _, file := range e.records().Of(p.Network, p.Container) {
			_ = os.Remove(file)
			_ = os.Remove(filepath.Dir(file))
		}
		_ = os.RemoveAll(filepath.Join(string(e.records()), p.Container)) // aliases of links
	}
}

func (c *Container) egressLog() string { return filepath.Join(c.dataDir(), "egress.log") }

// checkEgress refuses what could not be enforced.
func (c *Container) checkEgress() error {
	if len(c.Config.Egress) == 0 {
		return nil
	}
	if _, err := egress.Parse(c.Config.Egress); err != nil {
		return err
	}
	h := &c.HostConfig
	if !c.hasBridge() {
		return errs.Text(errs.Invalid, "conflicting options: --egress and the network mode "+string(h.NetworkMode))
	}
	admin := func(name string) bool {
		name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		return name == "ALL" || name == "NET_ADMIN"
	}
	if h.Privileged || slices.ContainsFunc(h.CapAdd, admin) {
		return errs.Text(errs.Invalid, "conflicting options: --egress and the capability NET_ADMIN, which could lift it")
	}
	return nil
}

// Seen is what the container wanted to reach while its egress was limited or learned, the first time each.
func (c *Container) Seen() (out []dns.Seen, err error) {
	b, err := os.ReadFile(c.egressLog())
	if err != nil && !os.IsNotExist(err) {
		return nil, errs.Wrap("read egress log", err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		var s dns.Seen
		if json.Unmarshal([]byte(line), &s) == nil {
			out = append(out, s)
		}
	}
	return out, nil
}

// names is what the monitor is told about them.
func (c *Container) names(endpoints []network.Endpoint) *monitor.Names {
	if !c.hasBridge() {
		return nil
	}
	n := &monitor.Names{Namespace: c.e.netnsPath(c.ID), Zone: dns.Zone{Records: c.e.records(), Networks: []string{c.ID}, Places: c.e.networks.Places(c.ID), Hosts: map[string]netip.Addr{}}}
	if self, err := os.Executable(); err == nil {
		n.Repair = &monitor.Repair{Argv: []string{self, "--root", c.e.root, "--state", c.e.state, "network", "repair"}, Lock: filepath.Join(c.e.state, "networks", "repair.lock")}
	}
	// Whoever has no way out must not ask the world either (CVE-2024-29018).
	if slices.ContainsFunc(endpoints, func(p network.Endpoint) bool { return !p.Internal }) {
		n.Upstream = dns.Upstream{Servers: c.HostConfig.DNS, File: "/etc/resolv.conf"}
	}
	if len(c.Egress) > 0 {
		if policy, err := egress.Parse(c.Egress); err == nil { // it was checked when the container was made
			n.Egress = &dns.Egress{Names: policy.Names, Learn: policy.Learn, Log: c.egressLog()}
		}
	}
	for _, p := range endpoints {
		if p.Gateway.IsValid() && !n.Zone.Hosts["host.docker.internal"].IsValid() {
			n.Zone.Hosts["host.docker.internal"], n.Zone.Hosts["gateway.docker.internal"] = p.Gateway, p.Gateway
		}
	}
	return n
}
