//go:build linux

// Package ports reads which ports a user publishes and exposes, into Docker's model of them.
package ports

import (
	"strconv"
	"strings"

	docker "github.com/moby/moby/api/types/network"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/network"
)

// Parse reads the values of -p and --expose.
func Parse(publish, expose []string) (docker.PortSet, docker.PortMap, error) {
	exposed, bindings := docker.PortSet{}, docker.PortMap{}
	for _, spec := range publish {
		ports, err := network.ParsePorts(spec)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range ports {
			port, ok := docker.PortFrom(p.ContainerPort, docker.IPProtocol(p.Protocol))
			if !ok {
				return nil, nil, errs.Text(errs.Invalid, "invalid port: "+spec)
			}
			b := docker.PortBinding{HostIP: p.HostIP}
			if p.HostPort > 0 {
				b.HostPort = strconv.Itoa(int(p.HostPort))
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
			return nil, nil, err
		}
		for n := int(first); n <= int(last); n++ {
			port, ok := docker.PortFrom(uint16(n), docker.IPProtocol(protocol))
			if !ok {
				return nil, nil, errs.Text(errs.Invalid, "invalid port: "+spec)
			}
			exposed[port] = struct{}{}
		}
	}
	return exposed, bindings, nil
}
