//go:build linux

package network

import (
	"fmt"
	"net/netip"
	"strings"
)

// Path tells how packets travel in a network: hops from left to right, each a link, an address or a rule of the firewall
// that `ip link` and `nft list ruleset` show by the same name.
type Path struct {
	Bridge string   // link on the host
	MTU    int      // of every link, in bytes
	Out    []string // from each container to the world
	In     []string // to each published port
	Within []string // to another container of the network
}

// Path describes a network with those who are in it.
func (s *Store) Path(n *Network) (*Path, error) {
	p := &Path{Bridge: n.Bridge, MTU: n.MTU, Out: []string{}, In: []string{}, Within: []string{}}
	ends, err := s.Endpoints(n)
	if err != nil {
		return nil, err
	}
	for i := range ends {
		e := &ends[i]
		p.Out = append(p.Out, e.PathOut(n))
		p.In = append(p.In, e.PathsIn()...)
		if i > 0 {
			p.Within = append(p.Within, strings.Join([]string{ends[0].near(), e.HostInterface, e.Interface + " of " + e.Name}, " → "))
		}
	}
	return p, nil
}

// near is the part of a path between a container's program and the bridge.
func (e *Endpoint) near() string {
	return fmt.Sprintf("%s: %s → %s → %s", e.Name, e.Interface, e.HostInterface, e.Bridge)
}

// PathOut tells in words how a packet leaves the container through this network.
func (e *Endpoint) PathOut(n *Network) string {
	hops := []string{e.near()}
	switch {
	case n.onLAN():
		return fmt.Sprintf("%s: %s → %s on %s → the LAN, gateway %s", e.Name, e.Interface, n.Driver, n.Options[optParent], e.Gateway)
	case n.Internal:
		hops = append(hops, "dropped on its way out (chain forward: an internal network has no way out)")
	default:
		hops = append(hops, fmt.Sprintf("gateway %s", e.Gateway), "chain forward: containers reach the world")
		if n.NoMasq {
			hops = append(hops, "the host's route, with the container's address")
		} else {
			hops = append(hops, "chain masquerade: the host's address", "the host's route")
		}
	}
	return strings.Join(hops, " → ")
}

// PathsIn tells in words how a packet reaches each published port.
func (e *Endpoint) PathsIn() (out []string) {
	for _, p := range e.Ports {
		for _, b := range e.bindings(p) {
			out = append(out, fmt.Sprintf("%s, port %d/%s → chain publish: map %s → %s → %s → %s → %s of %s",
				b.where(), p.HostPort, p.Protocol, b.set, netip.AddrPortFrom(b.to, p.ContainerPort), e.Bridge, e.HostInterface, e.Interface, e.Name))
		}
	}
	return out
}
