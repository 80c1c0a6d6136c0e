//go:build linux

package monitor

import (
	"time"
)

const (
	firstDelay   = 100 * time.Millisecond
	longestDelay = time.Minute
	settled      = 10 * time.Second // a life of this length makes the next delay the first again
)

// nextDelay says how long to wait before the next life: it doubles with each short life. 0 means there is none.
func (m *monitor) nextDelay(exit *Exit, last time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	again := m.revive || m.Restart.again(exit, m.status.Restarts-m.Restarts)
	m.revive = false
	if m.stopped || !again {
		return 0
	}
	if exit.FinishedAt.Sub(exit.StartedAt) > settled || last == 0 {
		return firstDelay
	}
	return min(2*last, longestDelay)
}

// again applies the policy; restarts is how often it was applied before.
func (r Restart) again(exit *Exit, restarts int) bool {
	switch r.Policy {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return exit.Code != 0 && (r.Retries == 0 || restarts < r.Retries)
	}
	return false
}

// pause waits before the next life; false when the end was asked for meanwhile.
func (m *monitor) pause(exit *Exit, delay time.Duration) bool {
	m.mu.Lock()
	m.status.Phase, m.status.Pid, m.status.PidSince, m.status.Last = Restarting, 0, 0, exit
	_ = m.publish()
	m.mu.Unlock()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-m.ending:
		return false
	}
}

// restart begins the next life. What keeps it from it is told as the end.
func (m *monitor) restart(exit *Exit) bool {
	m.mu.Lock()
	m.status.Restarts++
	m.mu.Unlock()
	err := m.create(nil)
	if err == nil {
		err = m.start()
	}
	if err != nil {
		m.abandon()
		exit.Code, exit.Error, exit.FinishedAt = 125, err.Error(), time.Now().UTC()
		return false
	}
	m.copyOutput()
	return true
}
