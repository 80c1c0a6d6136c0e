//go:build linux

// Package netspec reads what a user says of a network, and of a container's place in one, into package network's terms.
package netspec

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	docker "github.com/moby/moby/api/types/network"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/network"
)

// Settings are what a user says of a new network, as text.
type Settings struct {
	Name, Driver                   string
	Subnets, Gateways, Ranges, Aux []string
	Labels, Options                map[string]string
	IPAMDriver                     string
	IPAMOptions                    []string
	Internal, IPv6, Attachable     bool
	NoIPv4                         bool
}

// Network reads settings. Gateways, ranges and auxiliary addresses belong to the subnet that they lie in.
func Network(s Settings) (*network.Network, error) {
	o := &network.Network{Name: s.Name, Driver: s.Driver, Labels: s.Labels, Options: s.Options, Internal: s.Internal, Attachable: s.Attachable, NoIPv4: s.NoIPv4}
	bad := func(format string, args ...any) error { return errs.Text(errs.Invalid, fmt.Sprintf(format, args...)) }
	if s.IPAMDriver != "default" && s.IPAMDriver != "" {
		return nil, bad("IPAM driver %q is not known (known: default)", s.IPAMDriver)
	}
	if len(s.IPAMOptions) > 0 {
		return nil, bad("unknown option of the IPAM driver default: %s", s.IPAMOptions[0])
	}
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
			on, err := strconv.ParseBool(value)
			if err != nil {
				return nil, bad("invalid value of %s: %s", key, value)
			}
			o.NoMasq = !on
		case "parent", "macvlan_mode", "ipvlan_mode", "peers", "peers-file", "vni": // of their drivers
		default: // what is not done is not accepted
			return nil, errs.Text(errs.Invalid, "unknown option of a network: "+key).
				WithHint("mtu, com.docker.network.driver.mtu, com.docker.network.bridge.name, com.docker.network.bridge.enable_ip_masquerade, parent, macvlan_mode, ipvlan_mode, peers, peers-file, vni")
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

// Builtin describes a network that every host has and that is no object of ours.
func Builtin(name, driver string) docker.Inspect {
	return docker.Inspect{Network: docker.Network{Name: name, ID: fmt.Sprintf("%x", sha256.Sum256([]byte(name))), Scope: "local", Driver: driver, EnableIPv4: true,
		IPAM: docker.IPAM{Driver: "default"}, Options: map[string]string{}, Labels: map[string]string{}}, Containers: map[string]docker.EndpointResource{}}
}

// Joined refuses what a container in another's network cannot have for itself, as Docker does.
func Joined(h *container.HostConfig, hostname string) error {
	conflict := ""
	switch {
	case hostname != "":
		conflict = "hostname and the network mode"
	case len(h.DNS)+len(h.DNSSearch)+len(h.DNSOptions) > 0:
		conflict = "dns and the network mode"
	case len(h.ExtraHosts) > 0:
		conflict = "custom host-to-IP mapping and the network mode"
	case len(h.PortBindings) > 0 || h.PublishAllPorts:
		conflict = "port publishing and the container type network mode"
	default:
		return nil
	}
	return errs.Text(errs.Invalid, "conflicting options: "+conflict)
}

// Options of an endpoint's driver, as Docker has them.
const (
	optSysctls   = "com.docker.network.endpoint.sysctls" // NAME=VALUE,…, in which IFNAME stands for the interface's name
	optInterface = "com.docker.network.endpoint.ifname"
)

// EndpointOptions is what can be said of an endpoint, for helps and errors.
const EndpointOptions = optSysctls + ", " + optInterface

// Endpoint puts what a user wants of one network into a request.
func Endpoint(r *network.Request, s *docker.EndpointSettings) error {
	if s == nil {
		return nil
	}
	r.Aliases, r.MAC, r.Priority = s.Aliases, s.MacAddress.String(), s.GwPriority
	if s.IPAMConfig != nil {
		r.IP, r.IP6, r.LinkLocal = s.IPAMConfig.IPv4Address, s.IPAMConfig.IPv6Address, s.IPAMConfig.LinkLocalIPs
	}
	for key, value := range s.DriverOpts {
		switch key {
		case optInterface:
			r.Interface = value
		case optSysctls:
			r.Sysctls = map[string]string{}
			for _, setting := range strings.Split(value, ",") {
				name, v, ok := strings.Cut(setting, "=")
				if !ok || !strings.HasPrefix(name, "net.") || !strings.Contains(name, ".IFNAME.") || strings.Contains(name, "/") || strings.Contains(name, "..") {
					return errs.Text(errs.Invalid, fmt.Sprintf("invalid sysctl %q of an endpoint: want net.….IFNAME.…=VALUE", setting))
				}
				r.Sysctls[name] = v
			}
		default:
			return errs.Text(errs.Invalid, "unknown driver option of an endpoint: "+key).WithHint("known are " + EndpointOptions)
		}
	}
	return nil
}
