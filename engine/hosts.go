//go:build linux

package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	docker "github.com/moby/moby/api/types/network"

	"github.com/berth-containers/berth/engine/etc"
	"github.com/berth-containers/berth/engine/link"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/network"
)

// networkFiles are the files of /etc that a container gets from its engine, because what is in them depends on its
// network and not on its image. In another container's network they are that one's.
func (c *Container) networkFiles() []string {
	if other := c.joined(); other != nil {
		return other.networkFiles()
	}
	dir := c.runDir()
	return []string{filepath.Join(dir, "hosts"), filepath.Join(dir, "hostname"), filepath.Join(dir, "resolv.conf")}
}

// joined is the container whose network this one is in; nil for its own.
func (c *Container) joined() *Container {
	if !c.HostConfig.NetworkMode.IsContainer() {
		return nil
	}
	other, err := c.e.Lookup(c.HostConfig.NetworkMode.ConnectedContainer())
	if err != nil || other.ID == c.ID {
		return nil
	}
	return other
}

// writeNetworkFiles writes them for a start.
func (c *Container) writeNetworkFiles(endpoints []network.Endpoint) error {
	if c.joined() != nil {
		return nil
	}
	links, err := c.links()
	if err != nil {
		return err
	}
	h := &c.HostConfig
	about := etc.Hosts{Hostname: c.Hostname, Domainname: c.Domainname, HostNetwork: h.NetworkMode.IsHost(), Endpoints: endpoints, Extra: h.ExtraHosts}
	hosts := about.Text()
	for _, l := range links {
		hosts += fmt.Sprintf("%s\t%s %s %s\n", l.at.Address.Addr(), l.alias, l.ShortID(), l.Name)
	}
	resolver := etc.Resolver{HostNetwork: h.NetworkMode.IsHost(), Own: c.hasBridge(), Servers: h.DNS, Search: h.DNSSearch, Options: h.DNSOptions}
	contents := []string{hosts, c.Hostname + "\n", resolver.Text()}
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

// linkNames makes the aliases of links known to the container's resolver alone.
func (c *Container) linkNames() error {
	links, err := c.links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := c.e.records().Alias(c.ID, l.alias, l.at.Network, l.Name); err != nil {
			return err
		}
	}
	for in, s := range c.NetworkingConfig.EndpointsConfig {
		if s == nil || len(s.Links) == 0 {
			continue
		}
		n, err := c.e.networks.Get(in)
		if err != nil {
			return err
		}
		if err := c.linkIn(n, s); err != nil {
			return err
		}
	}
	return nil
}

// linkIn makes the aliases of links known that are for one network.
func (c *Container) linkIn(n *network.Network, s *docker.EndpointSettings) error {
	for _, spec := range s.Links {
		name, alias, _ := link.Split(spec)
		if err := c.e.records().Alias(c.ID, alias, n.ID, name); err != nil {
			return err
		}
	}
	return nil
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
