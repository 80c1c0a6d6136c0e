// Package row says how containers and their processes are written in lists: Docker's fields, byte for byte.
package row

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
)

// Container is a line of `ps`, with the fields that Docker's templates have.
type Container struct {
	Command, CreatedAt, HealthStatus, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks string

	Platform                               *string // of an image for several; nil where that is not kept
	Ports, RunningFor, Size, State, Status string

	labels map[string]string
	reason func() string
}

// Reason says in a few words why the last run ended, which is not in Docker's output.
func (c Container) Reason() string { return c.reason() }

// Health is HealthStatus.
func (c Container) Health() string { return c.HealthStatus }

// Label is the value of one label.
func (c Container) Label(name string) string { return c.labels[name] }

// Raw is the template of the format "raw"; with the size there is a line more.
func Raw(size bool) string {
	text := "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{.State}}\nstatus: {{.Status}}\n" +
		"names: {{.Names}}\nlabels: {{.Labels}}\nports: {{.Ports}}\n"
	if size {
		text += "size: {{.Size}}\n"
	}
	return text
}

// NewContainer fills the line. reason is only called when the template asks for it.
func NewContainer(s *docker.Summary, noTrunc bool, reason func() string) Container {
	created := time.Unix(s.Created, 0)
	c := Container{
		ID: s.ID, Image: s.Image, Command: strconv.Quote(s.Command), State: string(s.State), Status: s.Status, CreatedAt: created.String(),
		RunningFor: units.HumanDuration(time.Since(created)) + " ago", Ports: Ports(s.Ports), labels: s.Labels, reason: reason,
	}
	var names, labels, mounts []string
	for _, n := range s.Names {
		names = append(names, strings.TrimPrefix(n, "/"))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		labels = append(labels, k+"="+s.Labels[k])
	}
	volumes := 0
	for _, m := range s.Mounts {
		name := m.Name
		if name == "" {
			name = m.Source
		}
		if m.Driver == "local" {
			volumes++
		}
		if !noTrunc {
			name = shortened(name, 15)
		}
		mounts = append(mounts, name)
	}
	c.Names, c.Labels, c.Mounts, c.LocalVolumes = strings.Join(names, ","), strings.Join(labels, ","), strings.Join(mounts, ","), strconv.Itoa(volumes)
	c.Networks = strings.Join(slices.Sorted(maps.Keys(s.NetworkSettings.Networks)), ",")
	c.Size = units.HumanSizeWithPrecision(float64(s.SizeRw), 3)
	if s.SizeRootFs > 0 {
		c.Size += " (virtual " + units.HumanSizeWithPrecision(float64(s.SizeRootFs), 3) + ")"
	}
	if s.Health != nil {
		c.HealthStatus = string(s.Health.Status)
	}
	if noTrunc {
		return c
	}
	c.ID, c.Command = short(s.ID), strconv.Quote(shortened(s.Command, 20))
	if c.Image = strings.TrimPrefix(strings.TrimPrefix(s.Image, "docker.io/library/"), "docker.io/"); strings.HasPrefix(c.Image, "sha256:") {
		c.Image = short(c.Image)
	}
	if name, _, ok := strings.Cut(c.Image, "@sha256:"); ok {
		c.Image = name
	}
	return c
}

func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// shortened is a text of at most n characters.
func shortened(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return text
}

// Ports is the column PORTS: neighbours that keep their number on the host are one range, 0.0.0.0:80-82->80-82/tcp, and come
// before those that are published by another number.
func Ports(ports []docker.PortSummary) string {
	ports = slices.Clone(ports)
	slices.SortFunc(ports, func(a, b docker.PortSummary) int {
		if n := int(a.PrivatePort) - int(b.PrivatePort); n != 0 {
			return n
		}
		if n := a.IP.Compare(b.IP); n != 0 {
			return n
		}
		if n := int(a.PublicPort) - int(b.PublicPort); n != 0 {
			return n
		}
		return strings.Compare(a.Type, b.Type)
	})
	type open struct {
		ip, protocol string
		first, last  uint16
	}
	var ended, other []string
	var groups []*open
	text := func(g *open) string {
		numbers := strconv.Itoa(int(g.first))
		if g.last > g.first {
			numbers += "-" + strconv.Itoa(int(g.last))
		}
		if g.ip != "" {
			numbers = net.JoinHostPort(g.ip, numbers) + "->" + numbers
		}
		return numbers + "/" + g.protocol
	}
	for _, p := range ports {
		at := open{protocol: p.Type, first: p.PrivatePort, last: p.PrivatePort}
		if p.PublicPort != 0 {
			at.ip = "0.0.0.0"
			if p.IP.IsValid() {
				at.ip = p.IP.String()
			}
			if p.PublicPort != p.PrivatePort {
				other = append(other, fmt.Sprintf("%s->%d/%s", net.JoinHostPort(at.ip, strconv.Itoa(int(p.PublicPort))), p.PrivatePort, p.Type))
				continue
			}
		}
		i := slices.IndexFunc(groups, func(g *open) bool { return g.ip == at.ip && g.protocol == at.protocol })
		switch {
		case i < 0:
			groups = append(groups, &at)
		case groups[i].last+1 == p.PrivatePort:
			groups[i].last = p.PrivatePort
		default:
			ended = append(ended, text(groups[i]))
			*groups[i] = at
		}
	}
	for _, g := range groups {
		ended = append(ended, text(g))
	}
	return strings.Join(append(ended, other...), ", ")
}

// Fit shortens what takes most of the room, so that a table of `ps` is no wider than a terminal. Ids, names and states
// stay whole.
func Fit(list []Container, size bool, columns int) {
	fields := []struct {
		head string
		of   func(c *Container) *string
	}{
		{"PORTS", func(c *Container) *string { return &c.Ports }}, {"COMMAND", func(c *Container) *string { return &c.Command }},
		{"IMAGE", func(c *Container) *string { return &c.Image }}, {"CONTAINER ID", func(c *Container) *string { return &c.ID }},
		{"CREATED", func(c *Container) *string { return &c.RunningFor }}, {"STATUS", func(c *Container) *string { return &c.Status }},
		{"NAMES", func(c *Container) *string { return &c.Names }}, {"SIZE", func(c *Container) *string { return &c.Size }},
	}
	if !size {
		fields = fields[:len(fields)-1]
	}
	const gap, narrowest = 3, 10 // as the table's writer has them
	over := -columns
	widths := make([]int, len(fields))
	for i, f := range fields {
		widths[i] = len(f.head)
		for j := range list {
			widths[i] = max(widths[i], len([]rune(*f.of(&list[j]))))
		}
		if i == len(fields)-1 {
			over += widths[i]
		} else {
			over += max(narrowest, widths[i]+gap)
		}
	}
	for i, f := range fields[:3] {
		cut := min(over, widths[i]-narrowest)
		if cut <= 0 {
			continue
		}
		over -= cut
		for j := range list {
			text := f.of(&list[j])
			if inner, quoted := strings.CutSuffix(*text, `"`); quoted && len([]rune(*text)) > widths[i]-cut {
				*text = shortened(inner, widths[i]-cut-1) + `"`
			} else {
				*text = shortened(*text, widths[i]-cut)
			}
		}
	}
}
