//go:build linux

package cgroup

// Marks are what a group's life has left in its files: how far it went and which limits it met. They are gone with the
// group.
type Marks struct {
	MemoryPeak    uint64 `json:"memoryPeak,omitempty"`    // bytes; 0: the kernel does not say (version 2 before Linux 5.19)
	MemoryLimit   uint64 `json:"memoryLimit,omitempty"`   // bytes; 0: none
	MemoryHits    uint64 `json:"memoryHits,omitempty"`    // so often something had to be given back for the limit's sake
	OOMKills      uint64 `json:"oomKills,omitempty"`      // processes killed, in the whole subtree
	PidsLimit     uint64 `json:"pidsLimit,omitempty"`     // 0: none
	PidsHits      uint64 `json:"pidsHits,omitempty"`      // so many forks were refused
	CPUPeriods    uint64 `json:"cpuPeriods,omitempty"`    // in which it wanted CPU time, with a quota
	CPUThrottled  uint64 `json:"cpuThrottled,omitempty"`  // of these, in so many it had to wait
	ThrottledTime uint64 `json:"throttledTime,omitempty"` // nanoseconds
}

// unlimited is what version 1 shows of a memory limit that was never set: the largest number of whole pages.
const unlimited = 1 << 62

// Marks reads them.
func (g *Group) Marks() *Marks {
	m := &Marks{OOMKills: g.OOMKills()}
	cpu := g.table("cpu", "cpu.stat")
	m.CPUPeriods, m.CPUThrottled = cpu["nr_periods"], cpu["nr_throttled"]
	if g.V2() {
		m.MemoryPeak, _ = g.number("memory", "memory.peak")
		m.MemoryLimit, _ = g.number("memory", "memory.max")
		m.MemoryHits = g.table("memory", "memory.events")["max"]
		m.ThrottledTime = cpu["throttled_usec"] * 1000
	} else {
		m.MemoryPeak, _ = g.number("memory", "memory.max_usage_in_bytes")
		m.MemoryLimit, _ = g.number("memory", "memory.limit_in_bytes")
		m.MemoryHits, _ = g.number("memory", "memory.failcnt")
		swap, _ := g.number("memory", "memory.memsw.failcnt") // met first when both limits are the same
		m.MemoryHits += swap
		m.ThrottledTime = cpu["throttled_time"]
	}
	if m.MemoryLimit >= unlimited {
		m.MemoryLimit = 0
	}
	if limit, ok := g.number("pids", "pids.max"); ok && limit != 1<<64-1 {
		m.PidsLimit = limit
	}
	m.PidsHits = g.table("pids", "pids.events")["max"]
	return m
}
