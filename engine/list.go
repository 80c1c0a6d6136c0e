//go:build linux

package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/monitor"
)

// List describes containers, the newest first.
func (e *Engine) List(o ListOptions) ([]docker.Summary, error) {
	if err := checkFilters(o.Filters, "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network", "publish", "since", "status", "volume"); err != nil {
		return nil, err
	}
	all, err := e.all()
	if err != nil {
		return nil, err
	}
	f := listFilter{e: e, Filters: o.Filters}
	if err := f.prepare(); err != nil {
		return nil, err
	}
	var out []docker.Summary
	for _, c := range all {
		state := c.state()
		running := state.Running || state.Restarting
		if !running && !o.All && o.Limit == 0 && len(o.Filters["status"]) == 0 && len(o.Filters["exited"]) == 0 {
			continue
		}
		if !f.match(c, state) {
			continue
		}
		out = append(out, c.summary(state, o.Size))
		if o.Limit > 0 && len(out) == o.Limit {
			break
		}
	}
	return out, nil
}

// state says what the container does, in Docker's shape. What a killed monitor left is cleaned up first.
func (c *Container) state() *docker.State {
	status, exit, orphan := c.now()
	if status == nil && (orphan || exists(c.runDir())) {
		c.repair()
		if status, exit, orphan = c.now(); status == nil && orphan { // its next monitor is being started
			status = monitor.LastStatus(c.runDir())
		}
	}
	s := &docker.State{Status: docker.StateCreated, StartedAt: zeroTime, FinishedAt: zeroTime}
	if status != nil {
		s.Pid, s.StartedAt = status.Pid, status.StartedAt.Format(time.RFC3339Nano)
		switch status.Phase {
		case monitor.Restarting:
			s.Status, s.Restarting, s.Running = docker.StateRestarting, true, true
		case monitor.Paused:
			s.Status, s.Paused, s.Running = docker.StatePaused, true, true
		case monitor.Running:
			s.Status, s.Running = docker.StateRunning, true
		}
		if status.Last != nil {
			s.ExitCode, s.FinishedAt = status.Last.Code, status.Last.FinishedAt.Format(time.RFC3339Nano)
		}
		s.Health = dockerHealth(status.Health)
		return s
	}
	if exit != nil {
		s.Status = docker.StateExited
		if exit.StartedAt.IsZero() {
			s.Status = docker.StateCreated // the start has failed
		} else {
			s.StartedAt = exit.StartedAt.Format(time.RFC3339Nano)
			s.FinishedAt = exit.FinishedAt.Format(time.RFC3339Nano)
		}
		s.ExitCode, s.OOMKilled, s.Error = exit.Code, exit.OOMKilled, exit.Error
	}
	return s
}

const zeroTime = "0001-01-01T00:00:00Z"

func dockerHealth(h *monitor.HealthStatus) *docker.Health {
	if h == nil {
		return nil
	}
	out := &docker.Health{Status: docker.HealthStatus(h.Status), FailingStreak: h.Failing}
	for _, r := range h.Log {
		out.Log = append(out.Log, &docker.HealthcheckResult{Start: r.Start, End: r.End, ExitCode: r.ExitCode, Output: r.Output})
	}
	return out
}

func (c *Container) summary(state *docker.State, size bool) docker.Summary {
	networks := c.networkSettings()
	s := docker.Summary{
		ID: c.ID, Names: []string{"/" + c.Name}, Image: c.Image, ImageID: c.ImageID, Command: strings.Join(c.Process.Args, " "),
		Created: c.Created.Unix(), Labels: c.Labels, State: state.Status, Status: statusText(state), Ports: portSummaries(networks.Ports),
		Mounts: c.mountPoints(), NetworkSettings: &docker.NetworkSettingsSummary{Networks: networks.Networks},
	}
	s.HostConfig.NetworkMode = c.networkMode()
	if state.Health != nil {
		s.Health = &docker.HealthSummary{Status: state.Health.Status, FailingStreak: state.Health.FailingStreak}
	}
	if size {
		s.SizeRw, s.SizeRootFs = c.sizes()
	}
	return s
}

// statusText is the column STATUS of `ps`.
func statusText(s *docker.State) string {
	since := func(t string) string {
		at, err := time.Parse(time.RFC3339Nano, t)
		if err != nil {
			return ""
		}
		return units.HumanDuration(time.Since(at))
	}
	switch s.Status {
	case docker.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, since(s.FinishedAt))
	case docker.StatePaused:
		return "Up " + since(s.StartedAt) + " (Paused)"
	case docker.StateRunning:
		text := "Up " + since(s.StartedAt)
		if s.Health != nil && s.Health.Status == docker.Starting {
			return text + " (health: starting)"
		}
		if s.Health != nil {
			return text + " (" + string(s.Health.Status) + ")"
		}
		return text
	case docker.StateExited:
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, since(s.FinishedAt))
	}
	return "Created"
}

// portSummaries are the ports that a container's image exposes, and where they are published.
func portSummaries(ports network.PortMap) []docker.PortSummary {
	var out []docker.PortSummary
	for port, bindings := range ports {
		if len(bindings) == 0 {
			out = append(out, docker.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
		for _, b := range bindings {
			n, _ := strconv.ParseUint(b.HostPort, 10, 16)
			out = append(out, docker.PortSummary{IP: b.HostIP, PrivatePort: port.Num(), PublicPort: uint16(n), Type: string(port.Proto())})
		}
	}
	slices.SortFunc(out, func(a, b docker.PortSummary) int {
		if a.PrivatePort != b.PrivatePort {
			return int(a.PrivatePort) - int(b.PrivatePort)
		}
		return a.IP.Compare(b.IP)
	})
	return out
}

// sizes are the bytes that the container has written, and those with its image's.
func (c *Container) sizes() (rw, all int64) {
	if dir, err := c.writeLayer(); err == nil {
		rw = layer.Size(filepath.Join(dir, "fs"))
	}
	all = rw
	if img, err := c.e.images.Resolve(c.ImageID); err == nil {
		all += img.Size
	}
	return rw, all
}

// checkFilters refuses filters that this list does not have.
func checkFilters(f Filters, known ...string) error {
	for key := range f {
		if !slices.Contains(known, key) {
			return errs.Text(errs.Invalid, fmt.Sprintf("invalid filter '%s'", key))
		}
	}
	return nil
}

// listFilter decides which containers are listed.
type listFilter struct {
	Filters
	e              *Engine
	before, since  *Container
	exited         []int
	ancestors      []string
	ancestorsKnown bool
}

func (f *listFilter) prepare() (err error) {
	for key, to := range map[string]**Container{"before": &f.before, "since": &f.since} {
		for _, name := range f.Filters[key] {
			if *to, err = f.e.Lookup(name); err != nil {
				return err
			}
		}
	}
	for _, v := range f.Filters["exited"] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return errs.Text(errs.Invalid, "invalid filter 'exited="+v+"'")
		}
		f.exited = append(f.exited, n)
	}
	for _, v := range f.Filters["status"] {
		if err := docker.ValidateContainerState(docker.ContainerState(v)); err != nil {
			return errs.New(errs.Invalid, "", err)
		}
	}
	for _, name := range f.Filters["ancestor"] {
		f.ancestorsKnown = true
		if img, err := f.e.images.Resolve(name); err == nil {
			f.ancestors = append(f.ancestors, img.ID)
		}
	}
	return nil
}

// any reports whether there is no such filter, or one of its values fits.
func (f Filters) any(key string, fits func(value string) bool) bool {
	values := f[key]
	return len(values) == 0 || slices.ContainsFunc(values, fits)
}

func (f *listFilter) match(c *Container, state *docker.State) bool {
	switch {
	case f.before != nil && !c.Created.Before(f.before.Created), f.since != nil && !c.Created.After(f.since.Created):
		return false
	case f.ancestorsKnown && !slices.Contains(f.ancestors, c.ImageID):
		return false
	case len(f.exited) > 0 && (state.Status != docker.StateExited || !slices.Contains(f.exited, state.ExitCode)):
		return false
	}
	return f.any("id", func(v string) bool { return strings.HasPrefix(c.ID, v) }) &&
		f.any("name", func(v string) bool {
			return strings.Contains("/"+c.Name, strings.Trim(v, "^$")) && f.anchored(c.Name, v)
		}) &&
		f.any("status", func(v string) bool { return string(state.Status) == v }) &&
		matchLabels(c.Labels, f.Filters["label"]) &&
		f.any("network", func(v string) bool { return c.inNetwork(v) }) &&
		f.any("volume", func(v string) bool {
			return slices.ContainsFunc(c.Mounts, func(m mountpoint.Point) bool { return m.Name == v || m.Destination == v || m.Source == v })
		}) &&
		f.any("health", func(v string) bool {
			return v == "none" && state.Health == nil || state.Health != nil && string(state.Health.Status) == v
		}) &&
		f.any("expose", func(v string) bool { return c.exposes(v) }) &&
		f.any("publish", func(v string) bool { return c.publishes(v) })
}

// anchored honours ^ and $, all that people use of the regular expressions that Docker takes here.
func (f *listFilter) anchored(name, pattern string) bool {
	plain := strings.TrimPrefix(strings.Trim(pattern, "^$"), "/")
	return (!strings.HasPrefix(pattern, "^") || strings.HasPrefix(name, plain)) && (!strings.HasSuffix(pattern, "$") || strings.HasSuffix(name, plain))
}

// matchLabels wants all of "key" and "key=value".
func matchLabels(labels map[string]string, want []string) bool {
	for _, w := range want {
		key, value, exact := strings.Cut(w, "=")
		if have, ok := labels[key]; !ok || exact && have != value {
			return false
		}
	}
	return true
}

func (c *Container) inNetwork(name string) bool {
	for n, s := range c.networkSettings().Networks {
		if n == name || s.NetworkID != "" && strings.HasPrefix(s.NetworkID, name) {
			return true
		}
	}
	return false
}

func (c *Container) exposes(text string) bool {
	port, err := network.ParsePort(text)
	_, ok := c.ExposedPorts[port]
	return err == nil && ok
}

func (c *Container) publishes(text string) bool {
	port, err := network.ParsePort(text)
	_, ok := c.HostConfig.PortBindings[port]
	return err == nil && ok
}
