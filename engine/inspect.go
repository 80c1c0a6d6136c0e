//go:build linux

package engine

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"github.com/berth-containers/berth/engine/confine"
	"github.com/berth-containers/berth/engine/logging"
	"github.com/berth-containers/berth/engine/mountpoint"
	bridges "github.com/berth-containers/berth/network"
)

// Inspection is all that is known of a container: Docker's answer, and where its files are on the host.
type Inspection struct {
	docker.InspectResponse
	Berth Places
}

// Places are where a container's files are on the host.
type Places struct {
	Egress     []string `json:",omitempty"` // what it may reach; empty: everything
	WriteLayer string   // what the container has written
	MergedView string   // its root, image and write layer together, while it runs; "" otherwise
	Layers     []string // the image's, top first
	Bundle     string   // with the runtime specification, while it runs
	Argv       []string `json:",omitempty"` // the command line that made it
	Reason     string   `json:",omitempty"` // why the last run ended, in a few words; `why` has more
}

// Inspect describes the container.
func (c *Container) Inspect(size bool) *Inspection {
	state := c.state()
	places := Places{WriteLayer: filepath.Join(c.dataDir(), "rw/fs"), Layers: c.Lowers, Argv: c.Argv, Egress: c.Egress, Reason: c.Reason()}
	if state.Pid > 0 {
		places.MergedView = fmt.Sprintf("/proc/%d/root", state.Pid)
		places.Bundle = c.bundle()
	}
	out := &Inspection{Berth: places}
	files := c.networkFiles()
	config, host := c.Config.Config, c.HostConfig
	config.Image = c.Image
	host.NetworkMode = docker.NetworkMode(c.networkMode())
	c.showDefaults(&host)
	out.InspectResponse = docker.InspectResponse{
		ID: c.ID, Created: c.Created.Format(time.RFC3339Nano), Path: c.Process.Args[0], Args: append([]string{}, c.Process.Args[1:]...),
		State: state, Image: c.ImageID, HostsPath: files[0], HostnamePath: files[1], ResolvConfPath: files[2],
		Name: "/" + c.Name, RestartCount: c.restarts(), Driver: "overlay2",
		Platform: "linux", ExecIDs: nil, HostConfig: &host, Config: &config, Mounts: c.mountPoints(), NetworkSettings: c.networkSettings(),
		GraphDriver: &storage.DriverData{Name: "overlay2", Data: map[string]string{
			"LowerDir": strings.Join(c.Lowers, ":"), "UpperDir": places.WriteLayer, "WorkDir": filepath.Join(c.dataDir(), "rw/work"), "MergedDir": places.MergedView,
		}},
	}
	host.LogConfig.Type = logging.Driver(host.LogConfig)
	if cfg, err := c.logConfig(); err == nil {
		out.LogPath = cfg.File
	}
	if o, err := confine.Parse(host.SecurityOpt); err == nil {
		l, _ := c.labels(&o)
		out.AppArmorProfile, out.ProcessLabel, out.MountLabel = l.Profile, l.Process, l.File
	}
	if size {
		rw, all := c.sizes()
		out.SizeRw, out.SizeRootFs = &rw, &all
	}
	return out
}

// showDefaults fills in what the user has left to the engine.
func (c *Container) showDefaults(h *docker.HostConfig) {
	h.Runtime = cmp.Or(h.Runtime, "berth-runtime")
	h.IpcMode, h.CgroupnsMode = cmp.Or(h.IpcMode, "private"), cmp.Or(h.CgroupnsMode, "private")
	if h.ShmSize <= 0 && !h.IpcMode.IsHost() && !h.IpcMode.IsContainer() {
		h.ShmSize = defaultShmSize
	}
	if o, err := confine.Parse(h.SecurityOpt); err == nil && !h.Privileged && !o.Unmask {
		h.MaskedPaths, h.ReadonlyPaths = maskedPaths, readonlyPaths
	}
}

// Last says how the last finished run of the container ended; nil when none has.
func (c *Container) Last() *Exit {
	status, exit, _ := c.now()
	if status != nil {
		return status.Last
	}
	return exit
}

// Reason says in a few words why the last run ended; "" when none has.
func (c *Container) Reason() string {
	exit := c.Last()
	switch {
	case exit == nil:
		return ""
	case exit.Unknown:
		return "unknown"
	case exit.OOMKilled:
		return "out of memory"
	case exit.By != "":
		return exit.By
	case exit.StartedAt.IsZero():
		return "not started"
	case exit.Signal != 0:
		return "signal " + strconv.Itoa(exit.Signal)
	}
	return "exit " + strconv.Itoa(exit.Code)
}

func (c *Container) restarts() int {
	status, exit, _ := c.now()
	switch {
	case status != nil:
		return status.Restarts
	case exit != nil:
		return exit.Restarts
	}
	return 0
}

// mountPoints are the user's mounts in Docker's shape.
func (c *Container) mountPoints() []docker.MountPoint {
	out := []docker.MountPoint{}
	for _, m := range c.Mounts {
		p := docker.MountPoint{Type: m.Type, Name: m.Name, Source: m.Source, Destination: m.Destination, Mode: m.Mode, RW: m.RW, Propagation: m.Propagation}
		if m.Mode == mountpoint.FromOther {
			p.Mode = ""
		}
		if m.Type == "volume" {
			p.Driver = "local"
		}
		if m.Type == "bind" && p.Propagation == "" {
			p.Propagation = "rprivate"
		}
		out = append(out, p)
	}
	return out
}

// networkMode is what the user chose, or what that means.
func (c *Container) networkMode() string {
	if m := c.HostConfig.NetworkMode; m != "" && m != "default" {
		return string(m)
	}
	return bridges.DefaultName
}

// networkSettings are the container's places in networks: those it has while it runs, those it will have otherwise.
func (c *Container) networkSettings() *docker.NetworkSettings {
	out := &docker.NetworkSettings{Ports: network.PortMap{}, Networks: map[string]*network.EndpointSettings{}}
	if !c.hasBridge() {
		out.Networks[c.networkMode()] = &network.EndpointSettings{}
		return out
	}
	for port := range c.ExposedPorts {
		out.Ports[port] = nil
	}
	requests, err := c.networkRequests()
	if err == nil {
		for _, r := range requests {
			out.Networks[r.Network] = &network.EndpointSettings{Aliases: r.Aliases}
		}
	}
	endpoints, err := c.e.networks.EndpointsOf(c.ID)
	if err != nil {
		return out
	}
	if len(endpoints) > 0 {
		out.SandboxKey = c.e.netnsPath(c.ID)
		out.SandboxID = c.ID
	}
	for _, e := range endpoints {
		s := &network.EndpointSettings{NetworkID: e.Network, EndpointID: c.ID, Aliases: e.Aliases, Gateway: e.Gateway, IPAddress: e.Address.Addr(),
			IPPrefixLen: max(e.Address.Bits(), 0), IPv6Gateway: e.Gateway6, GlobalIPv6Address: e.Address6.Addr(), GlobalIPv6PrefixLen: max(e.Address6.Bits(), 0),
			DNSNames: append([]string{c.Name, c.ShortID()}, e.Aliases...)}
		_ = s.MacAddress.UnmarshalText([]byte(e.MAC))
		out.Networks[e.NetworkName] = s
		for _, p := range e.Ports {
			port, ok := network.PortFrom(p.ContainerPort, network.IPProtocol(p.Protocol))
			if !ok {
				continue
			}
			at := []netip.Addr{p.HostIP}
			if !p.HostIP.IsValid() { // every address of the host, of both kinds if the container has both
				at[0] = netip.IPv4Unspecified()
				if e.Address6.IsValid() {
					at = append(at, netip.IPv6Unspecified())
				}
			}
			for _, ip := range at {
				out.Ports[port] = append(out.Ports[port], network.PortBinding{HostIP: ip, HostPort: strconv.Itoa(int(p.HostPort))})
			}
		}
	}
	return out
}
