//go:build linux

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

	"github.com/berth-containers/berth/monitor"
)

// State is what a container does: its monitor's word while it has one, otherwise how it ended; neither is one that was never
// started.
func State(status *monitor.Status, exit *monitor.Exit) *docker.State {
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
		s.Health = health(status.Health)
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

// zeroTime is what never happened.
const zeroTime = "0001-01-01T00:00:00Z"

func health(h *monitor.HealthStatus) *docker.Health {
	if h == nil {
		return nil
	}
	out := &docker.Health{Status: docker.HealthStatus(h.Status), FailingStreak: h.Failing}
	for _, r := range h.Log {
		out.Log = append(out.Log, &docker.HealthcheckResult{Start: r.Start, End: r.End, ExitCode: r.ExitCode, Output: r.Output})
	}
	return out
}

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
