// Package summary says in Docker's words, for lists, what a container does and where its ports are.
package summary

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// Status is the column STATUS of `ps`.
func Status(s *docker.State) string {
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

// Ports are the ports that a container's image exposes, and where they are published.
func Ports(ports network.PortMap) []docker.PortSummary {
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
