//go:build linux

package engine

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

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
	contents := []string{c.hosts(endpoints) + links, c.Hostname + "\n", c.resolvConf()}
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

// links are lines of /etc/hosts for containers that were named by --link NAME[:ALIAS].
func (c *Container) links() (string, error) {
	var b strings.Builder
	for _, link := range c.HostConfig.Links {
		name, alias, _ := strings.Cut(link, ":")
		other, err := c.e.Lookup(name)
		if err != nil {
			return "", err
		}
		if alias == "" {
			alias = other.Name
		}
		endpoints, err := c.e.networks.EndpointsOf(other.ID)
		if err != nil {
			return "", err
		}
		if len(endpoints) == 0 {
			return "", errs.Text(errs.Conflict, fmt.Sprintf("Cannot link to a non running container: /%s AS /%s/%s", other.Name, c.Name, alias))
		}
		fmt.Fprintf(&b, "%s\t%s %s %s\n", endpoints[0].Address.Addr(), alias, other.ShortID(), other.Name)
	}
	return b.String(), nil
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
	if c.namesServed() {
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
