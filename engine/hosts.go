//go:build linux

package engine

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-containers/berth/engine/link"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/network"
	"github.com/berth-containers/berth/network/dns"
)

// networkFiles are the files of /etc that a container gets from its engine, because what is in them depends on its
// network and not on its image.
func (c *Container) networkFiles() []string {
	dir := c.runDir()
	return []string{filepath.Join(dir, "hosts"), filepath.Join(dir, "hostname"), filepath.Join(dir, "resolv.conf")}
}

// writeNetworkFiles writes them for a start.
func (c *Container) writeNetworkFiles(endpoints []network.Endpoint) error {
	links, err := c.links()
	if err != nil {
		return err
	}
	hosts := c.hosts(endpoints)
	for _, l := range links {
		hosts += fmt.Sprintf("%s\t%s %s %s\n", l.at.Address.Addr(), l.alias, l.ShortID(), l.Name)
	}
	contents := []string{hosts, c.Hostname + "\n", c.resolvConf()}
	for i, file := range c.networkFiles() {
		if err := os.WriteFile(file, []byte(contents[i]), 0o644); err != nil {
			return errs.Wrap("write "+filepath.Base(file), err)
		}
		if c.IDRange != nil {
			if err := os.Chown(file, int(c.IDRange.UID), int(c.IDRange.GID)); err != nil {
				return errs.Wrap("write "+filepath.Base(file), err)
			}
		}
	}
	return nil
}

// hosts is /etc/hosts: the container itself, what the user added; in the host's network what the host knows.
func (c *Container) hosts(endpoints []network.Endpoint) string {
	var b strings.Builder
	if c.HostConfig.NetworkMode.IsHost() {
		host, _ := os.ReadFile("/etc/hosts")
		b.Write(host)
		if len(host) > 0 && host[len(host)-1] != '\n' {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
		b.WriteString("fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	gateway := ""
	for _, e := range endpoints {
		names := c.Hostname
		if c.Domainname != "" {
			names = c.Hostname + "." + c.Domainname + " " + names
		}
		for _, p := range []netip.Prefix{e.Address, e.Address6} {
			if p.IsValid() {
				fmt.Fprintf(&b, "%s\t%s\n", p.Addr(), names)
			}
		}
		if gateway == "" && e.Gateway.IsValid() {
			gateway = e.Gateway.String()
		}
	}
	for _, extra := range c.HostConfig.ExtraHosts {
		name, address, _ := strings.Cut(extra, ":")
		if address == "host-gateway" {
			address = gateway
			if address == "" {
				address = "127.0.0.1"
			}
		}
		fmt.Fprintf(&b, "%s\t%s\n", strings.Trim(address, "[]"), name)
	}
	return b.String()
}

// linked is a container that was named by --link NAME[:ALIAS], with where it is now.
type linked struct {
	*Container
	alias string
	at    network.Endpoint // in a network that both are in, if there is one
}

// links are the containers that this one is linked to; each has to run.
func (c *Container) links() (out []linked, err error) {
	for _, spec := range c.HostConfig.Links {
		name, alias, _ := link.Split(spec)
		other, err := c.e.Lookup(name)
		if err != nil {
			return nil, err
		}
		endpoints, err := c.e.networks.EndpointsOf(other.ID)
		if err != nil {
			return nil, err
		}
		if len(endpoints) == 0 {
			return nil, errs.Text(errs.Conflict, fmt.Sprintf("Cannot link to a non running container: /%s AS /%s/%s", other.Name, c.Name, alias))
		}
		at := slices.IndexFunc(endpoints, func(e network.Endpoint) bool { return c.inNetwork(e.NetworkName) })
		out = append(out, linked{other, alias, endpoints[max(at, 0)]})
	}
	return out, nil
}

// Unlink takes away a link that the container was made with, by its alias. What a running one was told of it, it keeps until
// its next start.
func (c *Container) Unlink(alias string) error {
	i := slices.IndexFunc(c.HostConfig.Links, func(spec string) bool {
		_, a, _ := link.Split(spec)
		return a == alias
	})
	if i < 0 {
		return noSuchContainer("/" + c.Name + "/" + alias)
	}
	c.HostConfig.Links = slices.Delete(c.HostConfig.Links, i, i+1)
	return c.save()
}

// linkNames makes the aliases of links known to the container's resolver alone, and returns what takes them back.
func (c *Container) linkNames() (files []string, err error) {
	links, err := c.links()
	if err != nil {
		return nil, err
	}
	add := func(alias, network, name string) {
		var more []string
		if err == nil {
			more, err = c.e.records().Alias(c.ID, alias, network, name)
			files = append(files, more...)
		}
	}
	for _, l := range links {
		add(l.alias, l.at.Network, l.Name)
	}
	for in, s := range c.NetworkingConfig.EndpointsConfig {
		if s == nil || len(s.Links) == 0 {
			continue
		}
		n, err := c.e.networks.Get(in)
		if err != nil {
			return files, err
		}
		for _, spec := range s.Links {
			name, alias, _ := link.Split(spec)
			add(alias, n.ID, name)
		}
	}
	return files, err
}

// linkEnv tells of links by environment, as Docker does in the default network alone.
func (c *Container) linkEnv() (env []string) {
	if c.networkMode() != network.DefaultName {
		return nil
	}
	links, err := c.links()
	if err != nil {
		return nil // it is told when the container starts; a later exec does without
	}
	for _, l := range links {
		env = append(env, link.Env(c.Name, l.alias, link.Other{Address: l.at.Address.Addr(), Exposed: l.ExposedPorts, Env: l.Process.Env})...)
	}
	return env
}

// systemdResolved is where systemd keeps the servers that its own stub, on a loopback address, asks.
const systemdResolved = "/run/systemd/resolve/resolv.conf"

// resolvConf is /etc/resolv.conf: the host's servers, without those that only the host reaches, or the user's.
func (c *Container) resolvConf() string {
	h := &c.HostConfig
	host, _ := os.ReadFile("/etc/resolv.conf")
	if own := c.hasBridge() || h.NetworkMode.IsNone(); own && onlyLoopback(string(host)) {
		if other, err := os.ReadFile(systemdResolved); err == nil {
			host = other
		}
	}
	var servers, search, options []string
	for _, line := range strings.Split(string(host), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil && (!a.IsLoopback() || h.NetworkMode.IsHost()) {
				servers = append(servers, fields[1])
			}
		case "search", "domain":
			search = fields[1:]
		case "options":
			options = fields[1:]
		}
	}
	if c.hasBridge() {
		servers, options = []string{dns.Address}, append(options, "ndots:0")
	} else if len(h.DNS) > 0 {
		servers = nil
		for _, a := range h.DNS {
			servers = append(servers, a.String())
		}
	}
	if len(h.DNSSearch) > 0 {
		search = h.DNSSearch
	}
	if len(h.DNSOptions) > 0 {
		options = h.DNSOptions
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(search) > 0 && search[0] != "." {
		fmt.Fprintf(&b, "search %s\n", strings.Join(search, " "))
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.String()
}

func onlyLoopback(conf string) bool {
	any := false
	for _, line := range strings.Split(conf, "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "nameserver" {
			a, err := netip.ParseAddr(fields[1])
			if err == nil && !a.IsLoopback() {
				return false
			}
			any = true
		}
	}
	return any
}
