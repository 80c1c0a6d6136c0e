//go:build linux

package engine

import (
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/engine/doctor"
	"github.com/berth-containers/berth/engine/limits"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/monitor"
	"github.com/berth-containers/berth/network"
)

// Usage is what a container uses now.
type Usage struct {
	ID, Name              string
	CPU                   time.Duration // in all
	At                    time.Time
	Memory, MemoryLimit   uint64 // bytes; without page cache that can be given back
	Cache                 uint64 // bytes of page cache, all of it
	Pids                  uint64
	NetIn, NetOut         uint64 // bytes, of all links but loopback
	BlockRead, BlockWrite uint64
	Pressure              *[3]float64 // of CPU, memory, I/O: percents of the last ten seconds in which some process waited; nil: not known
}

// heart is what package container knows of a running container.
func (c *Container) heart() (*container.Container, error) {
	if !c.Running() {
		return nil, c.notRunning()
	}
	return container.Open(c.e.runtimeRoot(), c.ID)
}

// Usage reads the container's counters.
func (c *Container) Usage() (*Usage, error) {
	heart, err := c.heart()
	if err != nil {
		return nil, err
	}
	s, err := heart.Group().Stats()
	if err != nil {
		return nil, err
	}
	u := &Usage{ID: c.ID, Name: c.Name, At: time.Now(), CPU: time.Duration(s.CPU.Usage.Total), Memory: usedMemory(s), MemoryLimit: s.Memory.Usage.Limit, Pids: s.Pids.Current}
	if total := uint64(doctor.MemTotal()); u.MemoryLimit == 0 || u.MemoryLimit > total {
		u.MemoryLimit = total
	}
	for _, b := range s.Blkio.ServiceBytes {
		switch strings.ToLower(b.Op) {
		case "read":
			u.BlockRead += b.Value
		case "write":
			u.BlockWrite += b.Value
		}
	}
	for _, key := range []string{"total_cache", "file"} { // of version 1, of version 2
		u.Cache = max(u.Cache, s.Memory.Raw[key])
	}
	if cpu, memory, io := s.CPU.PSI, s.Memory.PSI, s.Blkio.PSI; cpu != nil && memory != nil && io != nil {
		u.Pressure = &[3]float64{cpu.Some.Avg10, memory.Some.Avg10, io.Some.Avg10}
	}
	u.NetIn, u.NetOut = traffic(heart.Pid())
	return u, nil
}

// usedMemory leaves out inactive page cache, as docker stats does.
func usedMemory(s *cgroup.Stats) uint64 {
	used := s.Memory.Usage.Usage
	for _, key := range []string{"total_inactive_file", "inactive_file"} {
		if cache, ok := s.Memory.Raw[key]; ok {
			if cache < used {
				return used - cache
			}
			break
		}
	}
	return used
}

// traffic reads the counters of a process's network (proc(5), net/dev).
func traffic(pid int) (in, out uint64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	for _, line := range strings.Split(string(b), "\n") {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue
		}
		received, _ := strconv.ParseUint(fields[0], 10, 64)
		sent, _ := strconv.ParseUint(fields[8], 10, 64)
		in, out = in+received, out+sent
	}
	return in, out
}

// Group is the control group of the running container.
func (c *Container) Group() (*cgroup.Group, error) {
	heart, err := c.heart()
	if err != nil {
		return nil, err
	}
	return heart.Group(), nil
}

// Endpoints are the container's places in networks while it runs.
func (c *Container) Endpoints() ([]network.Endpoint, error) { return c.e.networks.EndpointsOf(c.ID) }

// Top lists the container's processes, with their numbers on the host.
func (c *Container) Top() ([]int, error) {
	heart, err := c.heart()
	if err != nil {
		return nil, err
	}
	pids, err := heart.Group().Pids()
	return pids, c.told("top", err)
}

// UpdateOptions of [Container.Update].
type UpdateOptions struct {
	docker.Resources
	Hugepages     map[string]uint64 // page size → limit in bytes
	RestartPolicy docker.RestartPolicy
}

// Update changes limits and the restart policy, of a running container at once. What is zero stays.
func (c *Container) Update(o UpdateOptions) error {
	merged := limits.Merge(c.HostConfig.Resources, &o.Resources)
	if err := limits.Check(&merged); err != nil {
		return err
	}
	if err := docker.ValidateRestartPolicy(o.RestartPolicy); err != nil {
		return errs.New(errs.Invalid, "", err)
	}
	if o.RestartPolicy.Name != "" && c.HostConfig.AutoRemove && !o.RestartPolicy.IsNone() {
		return errs.Text(errs.Invalid, "Restart policy cannot be updated because AutoRemove is enabled for the container")
	}
	rules, err := limits.DeviceRules(o.DeviceCgroupRules)
	if err != nil {
		return err
	}
	running := c.Running()
	if running {
		if err := c.limitProcesses(o.Ulimits); err != nil {
			return err
		}
		request := monitor.Request{Op: "update", Resources: limits.Spec(&merged)}
		request.Resources.HugepageLimits, request.Resources.Devices = limits.Hugepages(o.Hugepages), rules
		if o.RestartPolicy.Name != "" {
			request.Restart = &monitor.Restart{Policy: string(o.RestartPolicy.Name), Retries: o.RestartPolicy.MaximumRetryCount}
		}
		if err := c.ask(request); err != nil {
			return err
		}
	}
	c.HostConfig.Resources = merged
	if c.Hugepages = maps.Clone(c.Hugepages); c.Hugepages == nil {
		c.Hugepages = map[string]uint64{}
	}
	maps.Copy(c.Hugepages, o.Hugepages)
	if o.RestartPolicy.Name != "" {
		c.HostConfig.RestartPolicy = o.RestartPolicy
	}
	if running && len(o.Ulimits) > 0 {
		if err := c.replan(); err != nil {
			return err
		}
	}
	return c.told("update", c.save())
}

// limitProcesses sets limits of all processes of the running container.
func (c *Container) limitProcesses(list []*docker.Ulimit) error {
	heart, err := c.heart()
	if err != nil || len(list) == 0 {
		return err
	}
	pids, err := heart.Group().Pids()
	if err != nil {
		return err
	}
	return container.SetLimits(pids, limits.Ulimits(list))
}
