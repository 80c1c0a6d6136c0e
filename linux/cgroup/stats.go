//go:build linux

package cgroup

import (
	"os"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/internal/listing"
)

// Stats are what a group has used and may use, in the JSON that `runc events --stats` prints.
type Stats struct {
	CPU     CPUStats                `json:"cpu"`
	Memory  MemoryStats             `json:"memory"`
	Pids    PidsStats               `json:"pids"`
	Blkio   BlkioStats              `json:"blkio"`
	Hugetlb map[string]HugetlbStats `json:"hugetlb"`
	CPUSet  CPUSetStats             `json:"cpuset"`
}

// CPUStats are nanoseconds.
type CPUStats struct {
	Usage struct {
		Total  uint64   `json:"total"`
		PerCPU []uint64 `json:"percpu,omitempty"`
		Kernel uint64   `json:"kernel"`
		User   uint64   `json:"user"`
	} `json:"usage"`
	Throttling struct {
		Periods          uint64 `json:"periods,omitempty"`
		ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
		ThrottledTime    uint64 `json:"throttledTime,omitempty"`
	} `json:"throttling"`
	PSI *PSI `json:"psi,omitempty"`
}

// MemoryEntry is one counter of memory, in bytes.
type MemoryEntry struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// MemoryStats are bytes. Cache is what can be given back: page cache.
type MemoryStats struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     MemoryEntry       `json:"usage"`
	Swap      MemoryEntry       `json:"swap"`
	Kernel    MemoryEntry       `json:"kernel"`
	KernelTCP MemoryEntry       `json:"kernelTCP"`
	Raw       map[string]uint64 `json:"raw,omitempty"`
	PSI       *PSI              `json:"psi,omitempty"`
}

// PidsStats count processes and threads.
type PidsStats struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// BlkioEntry is one counter of one device.
type BlkioEntry struct {
	Major uint64 `json:"major"`
	Minor uint64 `json:"minor"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value"`
}

// BlkioStats are bytes and operations.
type BlkioStats struct {
	ServiceBytes []BlkioEntry `json:"ioServiceBytesRecursive,omitempty"`
	Serviced     []BlkioEntry `json:"ioServicedRecursive,omitempty"`
	PSI          *PSI         `json:"psi,omitempty"`
}

// HugetlbStats are bytes.
type HugetlbStats struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// CPUSetStats are the CPUs and memory nodes the group may use.
type CPUSetStats struct {
	CPUs string `json:"cpus,omitempty"`
	Mems string `json:"mems,omitempty"`
}

// PSI is pressure: how much time was lost waiting (Documentation/accounting/psi.rst).
type PSI struct {
	Some PSIData `json:"some,omitzero"`
	Full PSIData `json:"full,omitzero"`
}

// PSIData are percents over 10, 60 and 300 seconds, and microseconds in all.
type PSIData struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// Stats reads the counters; what a host does not have stays zero.
func (g *Group) Stats() (*Stats, error) {
	s := &Stats{Hugetlb: map[string]HugetlbStats{}}
	if g.V2() {
		g.statsV2(s)
	} else {
		g.statsV1(s)
	}
	s.CPUSet.CPUs = g.line("cpuset", "cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
	s.CPUSet.Mems = g.line("cpuset", "cpuset.mems.effective", "cpuset.effective_mems", "cpuset.mems")
	s.Pids.Current, _ = g.number("pids", "pids.current")
	if limit, ok := g.number("pids", "pids.max"); ok && limit != 1<<64-1 {
		s.Pids.Limit = limit
	}
	return s, nil
}

func (g *Group) line(controller string, files ...string) string {
	for _, f := range files {
		if b, err := os.ReadFile(g.dirOf(controller) + "/" + f); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	return ""
}

// table reads a file of "key value" lines.
func (g *Group) table(controller, file string) map[string]uint64 {
	b, err := os.ReadFile(g.dirOf(controller) + "/" + file)
	if err != nil {
		return nil
	}
	out := map[string]uint64{}
	for _, l := range strings.Split(string(b), "\n") {
		k, v, ok := strings.Cut(l, " ")
		if n, err := strconv.ParseUint(v, 10, 64); ok && err == nil {
			out[k] = n
		}
	}
	return out
}

func (g *Group) entry(controller, prefix, usage, limit, max, fail string) (e MemoryEntry) {
	e.Usage, _ = g.number(controller, prefix+usage)
	e.Limit, _ = g.number(controller, prefix+limit)
	e.Max, _ = g.number(controller, prefix+max)
	e.Failcnt, _ = g.number(controller, prefix+fail)
	return e
}

// userHZ is the unit of cpuacct.stat, fixed by the kernel's interface.
const userHZ = 100

func (g *Group) statsV1(s *Stats) {
	s.CPU.Usage.Total, _ = g.number("cpuacct", "cpuacct.usage")
	for _, f := range strings.Fields(g.line("cpuacct", "cpuacct.usage_percpu")) {
		if n, err := strconv.ParseUint(f, 10, 64); err == nil {
			s.CPU.Usage.PerCPU = append(s.CPU.Usage.PerCPU, n)
		}
	}
	acct := g.table("cpuacct", "cpuacct.stat")
	s.CPU.Usage.User, s.CPU.Usage.Kernel = acct["user"]*(1e9/userHZ), acct["system"]*(1e9/userHZ)
	cpu := g.table("cpu", "cpu.stat")
	s.CPU.Throttling.Periods, s.CPU.Throttling.ThrottledPeriods, s.CPU.Throttling.ThrottledTime = cpu["nr_periods"], cpu["nr_throttled"], cpu["throttled_time"]
	s.Memory.Usage = g.entry("memory", "memory.", "usage_in_bytes", "limit_in_bytes", "max_usage_in_bytes", "failcnt")
	s.Memory.Swap = g.entry("memory", "memory.memsw.", "usage_in_bytes", "limit_in_bytes", "max_usage_in_bytes", "failcnt")
	s.Memory.Kernel = g.entry("memory", "memory.kmem.", "usage_in_bytes", "limit_in_bytes", "max_usage_in_bytes", "failcnt")
	s.Memory.KernelTCP = g.entry("memory", "memory.kmem.tcp.", "usage_in_bytes", "limit_in_bytes", "max_usage_in_bytes", "failcnt")
	s.Memory.Raw = g.table("memory", "memory.stat")
	s.Memory.Cache = s.Memory.Raw["cache"]
	s.Blkio.ServiceBytes = g.blkioV1("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes")
	s.Blkio.Serviced = g.blkioV1("blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced")
	for _, size := range g.pageSizes(".usage_in_bytes") {
		e := g.entry("hugetlb", "hugetlb."+size+".", "usage_in_bytes", "limit_in_bytes", "max_usage_in_bytes", "failcnt")
		s.Hugetlb[size] = HugetlbStats{e.Usage, e.Max, e.Failcnt}
	}
}

func (g *Group) blkioV1(files ...string) []BlkioEntry {
	var out []BlkioEntry
	for _, l := range strings.Split(g.line("blkio", files...), "\n") {
		f := strings.Fields(l)
		if len(f) != 3 {
			continue
		}
		if e, ok := blkioEntry(f[0], f[1], f[2]); ok {
			out = append(out, e)
		}
	}
	return out
}

func blkioEntry(dev, op, value string) (BlkioEntry, bool) {
	a, b, ok := strings.Cut(dev, ":")
	major, e1 := strconv.ParseUint(a, 10, 64)
	minor, e2 := strconv.ParseUint(b, 10, 64)
	n, e3 := strconv.ParseUint(value, 10, 64)
	return BlkioEntry{major, minor, op, n}, ok && e1 == nil && e2 == nil && e3 == nil
}

func (g *Group) pageSizes(end string) []string {
	es, err := listing.Folder(g.dirOf("hugetlb"))
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range es {
		name, ok := strings.CutPrefix(e.Name(), "hugetlb.")
		if size, fits := strings.CutSuffix(name, end); ok && fits && !strings.Contains(size, ".") {
			out = append(out, size)
		}
	}
	return out
}

func (g *Group) statsV2(s *Stats) {
	cpu := g.table("cpu", "cpu.stat")
	s.CPU.Usage.Total, s.CPU.Usage.User, s.CPU.Usage.Kernel = cpu["usage_usec"]*1000, cpu["user_usec"]*1000, cpu["system_usec"]*1000
	s.CPU.Throttling.Periods, s.CPU.Throttling.ThrottledPeriods, s.CPU.Throttling.ThrottledTime = cpu["nr_periods"], cpu["nr_throttled"], cpu["throttled_usec"]*1000
	s.Memory.Usage = g.entry("memory", "memory.", "current", "max", "peak", "")
	s.Memory.Usage.Failcnt = g.table("memory", "memory.events")["max"]
	swap := g.entry("memory", "memory.swap.", "current", "max", "peak", "")
	// As with version 1, memory and swap are counted together.
	s.Memory.Swap = MemoryEntry{Usage: s.Memory.Usage.Usage + swap.Usage, Limit: sum(s.Memory.Usage.Limit, swap.Limit), Max: swap.Max}
	s.Memory.Raw = g.table("memory", "memory.stat")
	s.Memory.Cache = s.Memory.Raw["file"]
	s.Memory.Kernel.Usage = s.Memory.Raw["kernel"]
	s.CPU.PSI, s.Memory.PSI, s.Blkio.PSI = g.psi("cpu"), g.psi("memory"), g.psi("io")
	for _, l := range strings.Split(g.line("io", "io.stat"), "\n") {
		f := strings.Fields(l)
		for i := 1; i < len(f); i++ {
			k, v, _ := strings.Cut(f[i], "=")
			op := map[byte]string{'r': "Read", 'w': "Write", 'd': "Discard"}[k[0]]
			e, ok := blkioEntry(f[0], op, v)
			switch {
			case !ok || op == "":
			case strings.HasSuffix(k, "bytes"):
				s.Blkio.ServiceBytes = append(s.Blkio.ServiceBytes, e)
			case strings.HasSuffix(k, "ios"):
				s.Blkio.Serviced = append(s.Blkio.Serviced, e)
			}
		}
	}
	for _, size := range g.pageSizes(".current") {
		e := g.entry("hugetlb", "hugetlb."+size+".", "current", "max", "", "")
		s.Hugetlb[size] = HugetlbStats{Usage: e.Usage, Failcnt: g.table("hugetlb", "hugetlb."+size+".events")["max"]}
	}
}

func sum(a, b uint64) uint64 {
	if a+b < a {
		return 1<<64 - 1
	}
	return a + b
}

func (g *Group) psi(what string) *PSI {
	text := g.line(what, what+".pressure")
	if text == "" {
		return nil
	}
	var p PSI
	for _, l := range strings.Split(text, "\n") {
		kind, rest, _ := strings.Cut(l, " ")
		var d PSIData
		for _, f := range strings.Fields(rest) {
			k, v, _ := strings.Cut(f, "=")
			n, _ := strconv.ParseFloat(v, 64)
			switch k {
			case "avg10":
				d.Avg10 = n
			case "avg60":
				d.Avg60 = n
			case "avg300":
				d.Avg300 = n
			case "total":
				d.Total = uint64(n)
			}
		}
		if kind == "some" {
			p.Some = d
		} else if kind == "full" {
			p.Full = d
		}
	}
	return &p
}
