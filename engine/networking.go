//go:build linux

package engine

import (
	"net/netip"
	"slices"

	docker "github.com/moby/moby/api/types/network"

	"github.com/berth-containers/berth/engine/netspec"
	"github.com/berth-containers/berth/engine/ports"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/network"
)

// networkRequests says in which networks the container is to be: the one of its mode first, then the others by name.
func (c *Container) networkRequests() ([]network.Request, error) {
	ports, err := c.ports()
	if err != nil {
		return nil, err
	}
	first := c.HostConfig.NetworkMode.NetworkName()
	if m := c.HostConfig.NetworkMode; m == "" || m == "default" {
		first = network.DefaultName
	}
	names := []string{}
	for name := range c.NetworkingConfig.EndpointsConfig {
		if name != first && name != "default" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var out []network.Request
	for i, name := range append([]string{first}, names...) {
		r := network.Request{Network: name, Container: c.ID, Name: c.Name, Files: c.e.nameFiles}
		if i == 0 {
			r.Ports = ports
		}
		if err := netspec.Endpoint(&r, c.NetworkingConfig.EndpointsConfig[name]); err != nil {
			return nil, err
		}
		if _, err := c.e.networks.Get(name); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// ports are what is to be reachable from outside: those that the user named, and with -P all that the image exposes.
func (c *Container) ports() ([]network.Port, error) {
	var out []network.Port
	add := func(port docker.Port, b docker.PortBinding) error {
		p := network.Port{HostIP: b.HostIP, ContainerPort: port.Num(), Protocol: string(port.Proto())}
		if b.HostIP == netip.IPv4Unspecified() || b.HostIP == netip.IPv6Unspecified() {
			p.HostIP = netip.Addr{}
		}
		if b.HostPort != "" {
			n, end, err := network.ParseRange(b.HostPort)
			if b.HostPort == "0" {
				n, end, err = 0, 0, nil
			}
			if err != nil {
				return errs.Text(errs.Invalid, "invalid host port: "+b.HostPort)
			}
			if p.HostPort = n; end > n {
				p.HostPortEnd = end
			}
		}
		p.LAN = c.LANPorts[ports.Key(port, b)]
		out = append(out, p)
		return nil
	}
	for port, bindings := range c.HostConfig.PortBindings {
		if len(bindings) == 0 {
			bindings = []docker.PortBinding{{}}
		}
		for _, b := range bindings {
			if err := add(port, b); err != nil {
				return nil, err
			}
		}
	}
	if c.HostConfig.PublishAllPorts {
		for port := range c.ExposedPorts {
			if _, named := c.HostConfig.PortBindings[port]; !named {
				if err := add(port, docker.PortBinding{}); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}
