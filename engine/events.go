//go:build linux

package engine

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/engine/match"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/monitor"
	"github.com/berth-containers/berth/monitor/event"
	"github.com/berth-containers/berth/network"
)

// Event is one thing that happened.
type Event = event.Event

func (e *Engine) journal() string { return filepath.Join(e.root, "events.json") }

// tell writes down what happened; more are pairs of what this event has to say.
func (e *Engine) tell(kind, action, id string, attributes map[string]string, more ...string) {
	event.Append(e.journal(), event.New(kind, action, id, attributes, more...))
}

// tellImage writes down what happened to an image, by its id or a name of it.
func (e *Engine) tellImage(action, id, name string) {
	e.tell("image", action, id, map[string]string{"name": name})
}

// tell writes down what happened to the container. What its program does is told by its monitor.
func (c *Container) tell(action string, more ...string) {
	c.e.tell("container", action, c.ID, c.eventAttributes(), more...)
}

// told writes down what was done to the container, if it was.
func (c *Container) told(action string, err error) error {
	if err == nil {
		c.tell(action)
	}
	return err
}

// eventAttributes are what is said of the container each time, as Docker does: labels, image and name.
func (c *Container) eventAttributes() map[string]string {
	out := maps.Clone(c.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out["image"], out["name"] = c.Config.Image, c.Name
	return out
}

func (c *Container) journal() *monitor.Journal {
	return &monitor.Journal{File: c.e.journal(), Attributes: c.eventAttributes(), After: c.volumesAfter()}
}

// tellMounts writes down that the container's volumes are mounted.
func (c *Container) tellMounts() {
	for _, m := range c.Mounts {
		if m.Name != "" {
			c.e.tell("volume", "mount", m.Name, map[string]string{"container": c.ID, "destination": m.Destination, "driver": "local",
				"propagation": string(m.Propagation), "read/write": strconv.FormatBool(m.RW)})
		}
	}
}

// volumesAfter is what is told of the container's volumes when it has ended.
func (c *Container) volumesAfter() (out []monitor.After) {
	for _, m := range c.Mounts {
		if m.Name == "" {
			continue
		}
		out = append(out, monitor.After{Kind: "volume", Action: "unmount", ID: m.Name, Attributes: map[string]string{"container": c.ID, "driver": "local"}})
		if c.HostConfig.AutoRemove && slices.Contains(c.Anon, m.Name) {
			out = append(out, monitor.After{Kind: "volume", Action: "destroy", ID: m.Name, Attributes: map[string]string{"driver": "local", "name": m.Name}})
		}
	}
	return out
}

// tellUnmounts is for a container whose monitor could not tell it.
func (c *Container) tellUnmounts() {
	for _, a := range c.volumesAfter() {
		if a.Action == "unmount" {
			c.e.tell(a.Kind, a.Action, a.ID, a.Attributes)
		}
	}
}

// Events hands over what happens, and with Since what has happened, until take fails, Until has come or ctx is done.
func (e *Engine) Events(ctx context.Context, o EventOptions, take func(Event) error) error {
	if !o.Since.IsZero() && !o.Until.IsZero() && o.Until.Before(o.Since) {
		return errs.Text(errs.Invalid, "since time cannot be after until time")
	}
	if err := checkFilters(o.Filters, "container", "daemon", "event", "image", "label", "network", "plugin", "type", "volume", "scope"); err != nil {
		return err
	}
	return event.Read(ctx, e.journal(), o.Options, func(ev Event) error {
		if !o.Filters.event(&ev) {
			return nil
		}
		return take(ev)
	})
}

// event reports whether an event passes.
func (f Filters) event(ev *Event) bool {
	// of is a filter that names the object, which must be of a kind, by its id, the begin of one, or its name.
	of := func(kind string) func(string) bool {
		return func(v string) bool {
			return ev.Type == kind && (ev.Actor.Attributes["name"] == strings.TrimPrefix(v, "/") || v != "" && strings.HasPrefix(ev.Actor.ID, v))
		}
	}
	return f.any("type", func(v string) bool { return ev.Type == v }) &&
		f.any("event", func(v string) bool { return ev.Action == v || strings.HasPrefix(ev.Action, v+":") }) &&
		f.any("scope", func(v string) bool { return ev.Scope == v }) &&
		f.any("container", of("container")) && f.any("network", of("network")) && f.any("volume", of("volume")) &&
		f.any("daemon", func(string) bool { return false }) && f.any("plugin", func(string) bool { return false }) &&
		f.any("image", func(v string) bool { return of("image")(v) || ev.Actor.Attributes["image"] == v }) &&
		match.Labels(ev.Actor.Attributes, f["label"])
}

// tellNetwork writes down what happened to a network.
func (e *Engine) tellNetwork(action string, n *network.Network, more ...string) {
	e.tell("network", action, n.ID, map[string]string{"name": n.Name, "type": "bridge"}, more...)
}

// tellVolume writes down what happened to a volume.
func (e *Engine) tellVolume(action, name string) {
	e.tell("volume", action, name, map[string]string{"driver": "local", "name": name})
}

// tellRemoved writes down which names and images a removal took away.
func (e *Engine) tellRemoved(r *image.Removed) {
	for _, name := range r.Untagged {
		e.tellImage("untag", name, name)
	}
	for _, id := range r.Deleted {
		e.tellImage("delete", id, id)
	}
}
