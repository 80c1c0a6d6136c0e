//go:build linux

// Package etc makes the files of /etc that a container gets from its engine, because what is in them depends on its network
// and not on its image: hosts(5) and resolv.conf(5).
package etc

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/berth-containers/berth/network"
	"github.com/berth-containers/berth/network/dns"
)

// Hosts is what a container's /etc/hosts is made of.
type Hosts struct {
	Hostname, Domainname string
	HostNetwork          bool // what the host knows is known inside
	Endpoints            []network.Endpoint
	Extra                []string // NAME:ADDRESS; the address may be host-gateway
}

// Text is the content of the file: the container itself, what the user added; in the host's network what the host knows.
func (h *Hosts) Text() string {
	var b strings.Builder
	if h.HostNetwork {
		host, _ := os.ReadFile("/etc/hosts")
		b.Write(host)
		if len(host) > 0 && host[len(host)-1] != '\n' {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
		b.WriteString("fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	names := h.Hostname
	if h.Domainname != "" {
		names = h.Hostname + "." + h.Domainname + " " + names
	}
	gateway := "127.0.0.1"
	if i := slices.IndexFunc(h.Endpoints, func(e network.Endpoint) bool { return e.Gateway.IsValid() }); i >= 0 {
		gateway = h.Endpoints[i].Gateway.String()
	}
	for _, e := range h.Endpoints {
		for _, p := range []netip.Prefix{e.Address, e.Address6} {
			if p.IsValid() {
				fmt.Fprintf(&b, "%s\t%s\n", p.Addr(), names)
			}
		}
	}
	for _, extra := range h.Extra {
		name, address, _ := strings.Cut(extra, ":")
		if address == "host-gateway" {
			address = gateway
		}
		fmt.Fprintf(&b, "%s\t%s\n", strings.Trim(address, "[]"), name)
	}
	return b.String()
}

// systemdResolved is where systemd keeps the servers that its own stub, on a loopback address, asks.
const systemdResolved = "/run/systemd/resolve/resolv.conf"

// Resolver is what a container's /etc/resolv.conf is made of. What the user says takes the place of the host's.
type Resolver struct {
	HostNetwork bool // the host's loopback addresses are the container's
	Own         bool // the container has a resolver of its own, which knows other containers' names
	Servers     []netip.Addr
	Search      []string // "." alone is none
	Options     []string
}

// Text is the content of the file: the host's servers, without those that only the host reaches, or the user's.
func (r *Resolver) Text() string {
	servers, search, options := r.host()
	if r.Own {
		servers, options = []string{dns.Address}, append(options, "ndots:0")
	} else if len(r.Servers) > 0 {
		servers = nil
		for _, a := range r.Servers {
			servers = append(servers, a.String())
		}
	}
	if len(r.Search) > 0 {
		search = r.Search
	}
	if len(r.Options) > 0 {
		options = r.Options
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

// host is what the host's file says, as far as it is true inside.
func (r *Resolver) host() (servers, search, options []string) {
	conf, _ := os.ReadFile("/etc/resolv.conf")
	if !r.HostNetwork && onlyLoopback(string(conf)) {
		if other, err := os.ReadFile(systemdResolved); err == nil {
			conf = other
		}
	}
	for line := range strings.Lines(string(conf)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil && (!a.IsLoopback() || r.HostNetwork) {
				servers = append(servers, fields[1])
			}
		case "search", "domain":
			search = fields[1:]
		case "options":
			options = fields[1:]
		}
	}
	return servers, search, options
}

func onlyLoopback(conf string) bool {
	any := false
	for line := range strings.Lines(conf) {
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
