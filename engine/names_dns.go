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

// entry is what an endpoint is known by.
func entry(p *network.Endpoint) dns.Entry {
	e := dns.Entry{Network: p.Network, Container: p.Container, Names: append([]string{p.Name, p.Container[:12]}, p.Aliases...), Host: p.Name + "." + p.NetworkName}
	for _, a := range []netip.Prefix{p.Address, p.Address6} {
		if a.IsValid() {
			e.Addresses = append(e.Addresses, a.Addr())
		}
	}
	return e
}

// nameFiles are those of an endpoint's names, which go with it.
func (e *Engine) nameFiles(p *network.Endpoint) []string { return e.records().Files(entry(p)) }

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
