//go:build linux

package monitor

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// States of health.
const (
	healthStarting  = "starting"
	healthHealthy   = "healthy"
	healthUnhealthy = "unhealthy"
)

const (
	keptChecks = 5    // as Docker
	keptOutput = 4096 // bytes of each
)

// watchHealth runs the check again and again while a life lasts.
func (m *monitor) watchHealth(l *life) {
	if m.Health == nil {
		return
	}
	began := time.Now()
	for {
		interval := m.Health.Interval
		starting := m.status.Health.Status == healthStarting && time.Since(began) < m.Health.StartPeriod
		if starting {
			interval = m.Health.StartInterval
		}
		timer := time.NewTimer(interval)
		select {
		case <-timer.C:
		case <-l.ended:
			timer.Stop()
			return
		}
		if m.status.Phase == Paused {
			continue
		}
		m.judge(m.check(l), time.Since(began) < m.Health.StartPeriod)
	}
}

// judge takes the result of a check. Failures while the container starts do not count.
func (m *monitor) judge(r HealthCheck, starting bool) {
	m.mu.Lock()
	h := *m.status.Health
	h.Log = append(append([]HealthCheck(nil), h.Log...), r)
	if len(h.Log) > keptChecks {
		h.Log = h.Log[len(h.Log)-keptChecks:]
	}
	was := h.Status
	switch {
	case r.ExitCode == 0:
		h.Status, h.Failing = healthHealthy, 0
	case starting && h.Status == healthStarting:
	default:
		if h.Failing++; h.Failing >= m.Health.Retries {
			h.Status = healthUnhealthy
		}
	}
	m.status.Health = &h
	_ = m.publish()
	m.mu.Unlock()
	if h.Status != was {
		m.tell("health_status: " + h.Status)
	}
	if h.Status == healthUnhealthy && was != healthUnhealthy {
		m.treat()
	}
}

// treat does what was asked for with an unhealthy container.
func (m *monitor) treat() {
	switch m.Health.OnFailure {
	case "stop":
		go func() { _ = m.stop(0, nil, "health") }()
	case "kill":
		m.askForEnd("health")
		if l, err := m.current(); err == nil {
			_ = m.sigkill(l)
		}
	case "restart":
		m.mu.Lock()
		m.revive = true
		m.mu.Unlock()
		if l, err := m.current(); err == nil {
			_ = m.sigkill(l)
		}
	}
}

// check runs the command once.
func (m *monitor) check(l *life) HealthCheck {
	r := HealthCheck{Start: time.Now().UTC()}
	p := *m.Plan.Process
	p.Args, p.Terminal, p.Reaper = m.Health.Test, false, false
	s, e, err := execute(l, Request{Process: &p})
	if err != nil {
		r.End, r.ExitCode, r.Output = time.Now().UTC(), -1, err.Error()
		return r
	}
	defer e.Close()
	var mu sync.Mutex
	s.copyTo(func(_ byte, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		if room := keptOutput - len(r.Output); room > 0 {
			r.Output += string(b[headerSize:min(len(b), headerSize+room)])
		}
	})
	late := false
	timer := time.AfterFunc(m.Health.Timeout, func() {
		mu.Lock()
		late = true
		mu.Unlock()
		_ = unix.PidfdSendSignal(int(e.PidFD().Fd()), unix.SIGKILL, nil, 0)
	})
	exit := awaitExec(e)
	timer.Stop()
	s.drain(time.Second, nil)
	mu.Lock()
	defer mu.Unlock()
	r.End, r.ExitCode = exit.FinishedAt, exit.Code
	if late {
		r.ExitCode, r.Output = -1, fmt.Sprintf("Health check exceeded timeout (%s)", m.Health.Timeout)
	}
	return r
}
