//go:build linux

package network

import (
	"fmt"
	"net/netip"
	"sort"

	"github.com/google/nftables"

	"github.com/berth-containers/berth/internal/errs"
)

// Published is one way into a container from outside of its network: an element of a map of the firewall.
type Published struct {
	Container, Name, Network string
	Host                     string // address of this host; "*": each
	HostPort                 uint16
	Protocol                 string // tcp, udp, sctp
	To                       netip.AddrPort
	Reach                    []string // who gets there: any, lan, host, containers
	Rule                     string   // as `nft list table inet berth` shows it
	Open                     bool     // the kernel has that rule now
}

// Published lists what is published on this host, with the rules that the kernel has.
func (s *Store) Published() (out []Published, err error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	there, err := kernelPorts()
	if err != nil {
		return nil, errs.Wrap("read firewall", err)
	}
	for _, n := range all {
		ends, err := s.Endpoints(n)
		if err != nil {
			return nil, err
		}
		for _, e := range ends {
			for _, p := range e.Ports {
				for _, b := range e.bindings(p) {
					out = append(out, e.published(p, b, there))
				}
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].HostPort < out[j].HostPort })
	return out, nil
}

func (e *Endpoint) published(p Port, b binding, there map[string]bool) Published {
	out := Published{Container: e.Container, Name: e.Name, Network: e.NetworkName, Host: "*", HostPort: p.HostPort, Protocol: p.Protocol,
		To: netip.AddrPortFrom(b.to, p.ContainerPort), Open: there[b.set+string(b.key)], Reach: []string{"any", "lan", "host", "containers"}}
	key := fmt.Sprintf("%s . %d", p.Protocol, p.HostPort)
	switch {
	case b.lan:
		out.Reach = out.Reach[1:]
	case b.host.IsLoopback():
		out.Host, key, out.Reach = b.host.String(), b.host.String()+" . "+key, []string{"host"}
	case b.host.IsValid():
		out.Host, key = b.host.String(), b.host.String()+" . "+key
	}
	if e.Internal { // its rules drop what comes from outside; the host itself is not forwarded
		out.Reach = []string{"host"}
	}
	out.Rule = fmt.Sprintf("chain publish: map %s: %s : %s . %d", b.set, key, b.to, p.ContainerPort)
	return out
}

// kernelPorts are the keys of the maps of published ports, each with the map's name in front.
func kernelPorts() (map[string]bool, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	for _, f := range families {
		for _, name := range []string{mapPublish, mapAt, mapLAN} {
			set, err := c.GetSetByName(table, name+f.suffix)
			if err != nil {
				continue // no table: nothing is open
			}
			es, err := c.GetSetElements(set)
			if err != nil {
				return nil, err
			}
			for _, e := range es {
				out[name+f.suffix+string(e.Key)] = true
			}
		}
	}
	return out, nil
}
