//go:build linux

// Package ports reads which ports a user publishes and exposes, into Docker's model of them.
package ports

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	docker "github.com/moby/moby/api/types/network"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/network"
)

// Holder names the process that holds a port of this host, or is "".
func Holder(protocol string, n uint16) string { return network.PortHolder(protocol, n) }

// Key tells a binding of a container's port from its others.
func Key(port docker.Port, b docker.PortBinding) string { return port.String() + "=" + b.HostPort }

// Parse reads the values of -p and --expose. The third result has the keys of those bindings that are for the LAN alone.
func Parse(publish, expose []string) (docker.PortSet, docker.PortMap, map[string]bool, error) {
	exposed, bindings, lan := docker.PortSet{}, docker.PortMap{}, map[string]bool(nil)
	for _, spec := range publish {
		ports, err := network.ParsePorts(spec)
		if err != nil {
			return nil, nil, nil, err
		}
		for _, p := range ports {
			port, ok := docker.PortFrom(p.ContainerPort, docker.IPProtocol(p.Protocol))
			if !ok {
				return nil, nil, nil, errs.Text(errs.Invalid, "invalid port: "+spec)
			}
			b := docker.PortBinding{HostIP: p.HostIP}
			if p.HostPort > 0 {
				b.HostPort = strconv.Itoa(int(p.HostPort))
			}
			if p.HostPortEnd > 0 {
				b.HostPort += "-" + strconv.Itoa(int(p.HostPortEnd))
			}
			if p.LAN {
				if lan == nil {
					lan = map[string]bool{}
				}
				lan[Key(port, b)] = true
			}
			exposed[port] = struct{}{}
			bindings[port] = append(bindings[port], b)
		}
	}
	for _, spec := range expose {
		numbers, protocol, _ := strings.Cut(spec, "/")
		if protocol == "" {
			protocol = "tcp"
		}
		first, last, err := network.ParseRange(numbers)
		if err != nil {
			return nil, nil, nil, err
		}
		for n := int(first); n <= int(last); n++ {
			port, ok := docker.PortFrom(uint16(n), docker.IPProtocol(protocol))
			if !ok {
				return nil, nil, nil, errs.Text(errs.Invalid, "invalid port: "+spec)
			}
			exposed[port] = struct{}{}
		}
	}
	return exposed, bindings, lan, nil
}

// Change adds bindings to those of a container and takes others away, which are named CONTAINER_PORT[/PROTOCOL] or
// HOST_PORT:CONTAINER_PORT[/PROTOCOL]. closed says of a published port whether it is one of the latter.
func Change(have, add docker.PortMap, remove []string) (out docker.PortMap, closed func(inner uint16, protocol string, host uint16) bool, err error) {
	out = docker.PortMap{}
	for port, list := range have {
		out[port] = slices.Clone(list)
	}
	type hole struct {
		port docker.Port
		host string
	}
	var holes []hole
	for _, text := range remove {
		host, inner, both := strings.Cut(text, ":")
		if !both {
			host, inner = "", text
		}
		port, err := docker.ParsePort(inner)
		if err != nil {
			return nil, nil, errs.New(errs.Invalid, "unpublish "+text, err)
		}
		named := func(b docker.PortBinding) bool { return host == "" || b.HostPort == host }
		if _, all := out[port]; !all || len(out[port]) > 0 && !slices.ContainsFunc(out[port], named) {
			return nil, nil, errs.Text(errs.NotFound, "unpublish "+text+": it is not published")
		}
		if out[port] = slices.DeleteFunc(out[port], named); len(out[port]) == 0 {
			delete(out, port)
		}
		holes = append(holes, hole{port, host})
	}
	for port, list := range add {
		out[port] = append(out[port], list...)
	}
	return out, func(inner uint16, protocol string, host uint16) bool {
		return slices.ContainsFunc(holes, func(h hole) bool {
			return h.port.Num() == inner && string(h.port.Proto()) == protocol && (h.host == "" || h.host == fmt.Sprint(host))
		})
	}, nil
}
