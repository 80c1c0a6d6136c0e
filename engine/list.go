//go:build linux

package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/engine/match"
	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/engine/summary"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/monitor"
)

// List describes containers, the newest first.
func (e *Engine) List(o ListOptions) ([]docker.Summary, error) {
	if err := checkFilters(o.Filters, "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since", "status", "volume"); err != nil {
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
	states := make([]*docker.State, len(all))
	if o.Limit <= 0 {
		spread(len(all), func(i int) { states[i] = all[i].state() })
	}
	var out []docker.Summary
	for i, c := range all {
		state := states[i]
		if state == nil {
			state = c.state()
		}
		running := state.Running || state.Restarting
		if !running && !o.All && o.Limit == 0 && len(o.Filters["status"]) == 0 {
			continue
		}
		if !f.match(c, state) {
			continue
		}
		s := c.summary(state, o.Size)
		if !f.matchPorts(&s) {
			continue
		}
		f.showImage(&s)
		out = append(out, s)
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
	return summary.State(status, exit)
}

func (c *Container) summary(state *docker.State, size bool) docker.Summary {
	networks := c.networkSettings()
	s := docker.Summary{
		ID: c.ID, Names: []string{"/" + c.Name}, Image: c.Image, ImageID: c.ImageID, Command: strings.Join(c.Process.Args, " "),
		Created: c.Created.Unix(), Labels: c.Labels, State: state.Status, Status: summary.Status(state), Ports: summary.Ports(networks.Ports),
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
	e               *Engine
	names           match.Names
	before, since   *Container
	exited          []int
	ancestors       []ancestor
	publish, expose map[string]bool
	moved           map[string]bool // image names: whether they mean another image now than for a container with that id
}

// ancestor is an image whose containers, and those of images that were built on it, are asked for.
type ancestor struct {
	id     string
	lowers []string
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
			return errs.New(errs.Invalid, "invalid filter 'exited="+v+"'", err)
		}
		f.exited = append(f.exited, n)
	}
	for _, v := range f.Filters["status"] {
		if err := docker.ValidateContainerState(docker.ContainerState(v)); err != nil {
			return errs.New(errs.Invalid, "invalid filter 'status="+v+"'", err)
		}
	}
	for _, v := range f.Filters["health"] {
		if err := docker.ValidateHealthStatus(docker.HealthStatus(v)); err != nil {
			return errs.New(errs.Invalid, "invalid filter 'health="+v+"'", err)
		}
	}
	for _, name := range f.Filters["ancestor"] {
		img, err := f.e.images.Resolve(name)
		if err != nil {
			continue
		}
		lowers, err := f.e.images.Lowers(img)
		if err != nil {
			return err
		}
		f.ancestors = append(f.ancestors, ancestor{img.ID, lowers})
	}
	if f.publish, err = match.Ports("publish", f.Filters["publish"]); err == nil {
		f.expose, err = match.Ports("expose", f.Filters["expose"])
	}
	f.names = match.NewNames(f.Filters["name"])
	return err
}

// of reports whether a container's image is the ancestor, or has more layers on top of its.
func (a *ancestor) of(c *Container) bool {
	more := len(c.Lowers) - len(a.lowers)
	return c.ImageID == a.id || more > 0 && slices.Equal(c.Lowers[more:], a.lowers)
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
	case len(f.Filters["ancestor"]) > 0 && !slices.ContainsFunc(f.ancestors, func(a ancestor) bool { return a.of(c) }):
		return false
	case len(f.exited) > 0 && (state.Status != docker.StateExited || !slices.Contains(f.exited, state.ExitCode)):
		return false
	}
	return f.any("id", func(v string) bool { return strings.HasPrefix(c.ID, v) }) && f.names.Match(c.Name) &&
		f.any("status", func(v string) bool { return string(state.Status) == v }) &&
		f.any("is-task", func(v string) bool { return v == "false" || v == "0" }) && // nothing is a swarm's
		match.Labels(c.Labels, f.Filters["label"]) &&
		f.any("network", func(v string) bool { return c.inNetwork(v) }) &&
		f.any("volume", func(v string) bool {
			return slices.ContainsFunc(c.Mounts, func(m mountpoint.Point) bool { return m.Name == v || m.Destination == v || m.Source == v })
		}) &&
		f.any("health", func(v string) bool {
			return v == "none" && state.Health == nil || state.Health != nil && string(state.Health.Status) == v
		})
}

// matchPorts wants a port that is published at one of those of the host, or is one of those of the container.
func (f *listFilter) matchPorts(s *docker.Summary) bool {
	if len(f.publish)+len(f.expose) == 0 {
		return true
	}
	return slices.ContainsFunc(s.Ports, func(p docker.PortSummary) bool {
		return f.publish[fmt.Sprintf("%d/%s", p.PublicPort, p.Type)] || f.expose[fmt.Sprintf("%d/%s", p.PrivatePort, p.Type)]
	})
}

// showImage shows a container's image by its id when the name that the container was made with means another one now, or none.
func (f *listFilter) showImage(s *docker.Summary) {
	key := s.Image + " " + s.ImageID
	moved, known := f.moved[key]
	if !known {
		img, err := f.e.images.Resolve(s.Image)
		moved = err != nil || img.ID != s.ImageID
		if f.moved == nil {
			f.moved = map[string]bool{}
		}
		f.moved[key] = moved
	}
	if moved {
		s.Image = s.ImageID
	}
}

func (c *Container) inNetwork(name string) bool {
	for n, s := range c.networkSettings().Networks {
		if n == name || s.NetworkID != "" && strings.HasPrefix(s.NetworkID, name) {
			return true
		}
	}
	return false
}
