//go:build linux

// Package limits checks the resource limits that a user asked for, and translates them into the runtime specification.
package limits

import (
	"fmt"
	"maps"
	"math"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/blkiodev"
	docker "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/cgroup"
)

const smallestMemory = 6 << 20 // bytes; with less no container starts

// Check refuses limits that the kernel would refuse, or that would keep a container from starting, in Docker's
// words.
func Check(r *docker.Resources) error {
	bad := func(format string, args ...any) error { return errs.Text(errs.Invalid, fmt.Sprintf(format, args...)) }
	switch {
	case r.Memory != 0 && r.Memory < smallestMemory:
		return bad("Minimum memory limit allowed is 6MB")
	case r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		return bad("Minimum memoryswap limit should be larger than memory limit, see usage")
	case r.Memory == 0 && r.MemorySwap > 0:
		return bad("You should always set the Memory limit when using Memoryswap limit, see usage")
	case r.MemoryReservation != 0 && r.MemoryReservation < smallestMemory:
		return bad("Minimum memory reservation allowed is 6MB")
	case r.Memory > 0 && r.MemoryReservation > r.Memory:
		return bad("Minimum memory limit can not be less than memory reservation limit, see usage")
	case r.MemorySwappiness != nil && (*r.MemorySwappiness < -1 || *r.MemorySwappiness > 100):
		return bad("Invalid value: %v, valid memory swappiness range is 0-100", *r.MemorySwappiness)
	case r.NanoCPUs > 0 && (r.CPUPeriod != 0 || r.CPUQuota != 0):
		return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set")
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1000000):
		return bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)")
	case r.CPUShares < 0:
		return bad("shares can not be negative")
	case r.BlkioWeight != 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000):
		return bad("Range of blkio weight is from 10 to 1000")
	case r.PidsLimit != nil && *r.PidsLimit < -1:
		return bad("Invalid pids limit: %d", *r.PidsLimit)
	}
	if err := checkDevices(r); err != nil {
		return err
	}
	return checkCPUs(r)
}

// Merge puts limits over others; what is zero stays as it is. Per device the rates of those that are named change.
func Merge(have docker.Resources, r *docker.Resources) docker.Resources {
	for _, n := range []struct{ to, from *int64 }{
		{&have.Memory, &r.Memory}, {&have.MemorySwap, &r.MemorySwap}, {&have.MemoryReservation, &r.MemoryReservation}, {&have.NanoCPUs, &r.NanoCPUs},
		{&have.CPUShares, &r.CPUShares}, {&have.CPUPeriod, &r.CPUPeriod}, {&have.CPUQuota, &r.CPUQuota}, {&have.CPURealtimePeriod, &r.CPURealtimePeriod},
		{&have.CPURealtimeRuntime, &r.CPURealtimeRuntime},
	} {
		if *n.from != 0 {
			*n.to = *n.from
		}
	}
	if r.CpusetCpus != "" {
		have.CpusetCpus = r.CpusetCpus
	}
	if r.CpusetMems != "" {
		have.CpusetMems = r.CpusetMems
	}
	if r.BlkioWeight != 0 {
		have.BlkioWeight = r.BlkioWeight
	}
	if r.PidsLimit != nil {
		have.PidsLimit = r.PidsLimit
	}
	if r.MemorySwappiness != nil {
		have.MemorySwappiness = r.MemorySwappiness
	}
	for _, d := range []struct {
		to   *[]*blkiodev.ThrottleDevice
		from []*blkiodev.ThrottleDevice
	}{
		{&have.BlkioDeviceReadBps, r.BlkioDeviceReadBps}, {&have.BlkioDeviceWriteBps, r.BlkioDeviceWriteBps},
		{&have.BlkioDeviceReadIOps, r.BlkioDeviceReadIOps}, {&have.BlkioDeviceWriteIOps, r.BlkioDeviceWriteIOps},
	} {
		for _, t := range d.from {
			*d.to = append(slices.DeleteFunc(slices.Clone(*d.to), func(h *blkiodev.ThrottleDevice) bool { return h.Path == t.Path }), t)
		}
	}
	for _, u := range r.Ulimits {
		have.Ulimits = append(slices.DeleteFunc(slices.Clone(have.Ulimits), func(h *docker.Ulimit) bool { return h.Name == u.Name }), u)
	}
	have.DeviceCgroupRules = slices.Concat(have.DeviceCgroupRules, r.DeviceCgroupRules)
	for _, w := range r.BlkioWeightDevice {
		have.BlkioWeightDevice = append(slices.DeleteFunc(slices.Clone(have.BlkioWeightDevice), func(h *blkiodev.WeightDevice) bool { return h.Path == w.Path }), w)
	}
	return have
}

// Notes tells which limits mean nothing on this host, where others have them: version 2 of control groups has no swappiness
// of a group, does not let anybody out of the end by lack of memory, and has no real-time shares.
func Notes(r *docker.Resources) (out []string) {
	if r.OomKillDisable != nil && *r.OomKillDisable && r.Memory <= 0 {
		out = append(out, "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources")
	}
	if r.MemorySwappiness == nil && r.OomKillDisable == nil && r.CPURealtimePeriod == 0 && r.CPURealtimeRuntime == 0 {
		return out
	}
	mode, err := cgroup.Detect()
	if err != nil || mode != cgroup.V2 {
		return out
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		out = append(out, "control groups of version 2 have no swappiness: --memory-swappiness discarded")
	}
	if r.OomKillDisable != nil && *r.OomKillDisable {
		out = append(out, "control groups of version 2 cannot disable the OOM killer: --oom-kill-disable discarded")
	}
	if r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0 {
		out = append(out, "control groups of version 2 have no real-time limits: --cpu-rt-period and --cpu-rt-runtime discarded")
	}
	return out
}

// None reports whether nothing is asked for that [Merge] takes.
func None(r *docker.Resources) bool {
	return reflect.DeepEqual(Merge(docker.Resources{}, r), docker.Resources{})
}

// checkDevices refuses limits of devices that are not there: nobody would notice that they do not hold.
func checkDevices(r *docker.Resources) error {
	var paths []string
	for _, list := range [][]*blkiodev.ThrottleDevice{r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps, r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps} {
		for _, t := range list {
			paths = append(paths, t.Path)
		}
	}
	for _, w := range r.BlkioWeightDevice {
		paths = append(paths, w.Path)
	}
	for _, path := range paths {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFBLK {
			return errs.Text(errs.Invalid, "limit block I/O of "+path+": it is not a block device")
		}
		if _, ok := deviceNumber(path); !ok {
			return errs.Text(errs.Invalid, "limit block I/O of "+path+": there is no such device")
		}
	}
	return nil
}

func checkCPUs(r *docker.Resources) error {
	bad := func(format string, args ...any) error { return errs.Text(errs.Invalid, fmt.Sprintf(format, args...)) }
	online := readLine("/sys/devices/system/cpu/online")
	n := float64(countList(online))
	if r.NanoCPUs < 0 || r.NanoCPUs > 0 && (float64(r.NanoCPUs) > n*1e9 || r.NanoCPUs < 1e7) {
		return bad("Range of CPUs is from 0.01 to %.2f, as there are only %d CPUs available", n, int(n))
	}
	for _, list := range []struct{ what, value, online string }{
		{"CPUs", r.CpusetCpus, online}, {"memory nodes", r.CpusetMems, readLine("/sys/devices/system/node/online")},
	} {
		if list.value == "" {
			continue
		}
		if err := cgroup.CheckList(list.value); err != nil {
			return err
		}
		if list.online != "" && !cgroup.Within(list.value, list.online) {
			return bad("Requested %s are not available - requested %s, available: %s", list.what, list.value, list.online)
		}
	}
	return nil
}

// readLine reads a small file of the kernel; "" when it is not there.
func readLine(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// countList counts the numbers of a list like 0-3,7.
func countList(list string) (n int) {
	for _, part := range strings.Split(list, ",") {
		first, last, ranged := strings.Cut(part, "-")
		a, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		b := a
		if ranged {
			if b, err = strconv.Atoi(last); err != nil {
				continue
			}
		}
		n += b - a + 1
	}
	return n
}

// DefaultPids is how many processes and threads a container may have that says nothing about it: enough for what is
// useful, and a fork bomb does not take the host's (podman has half as many, Docker no limit).
const DefaultPids = 4096

// Spec translates limits. What is zero is not limited; that nothing is said of processes is [DefaultPids].
func Spec(r *docker.Resources) *specs.LinuxResources {
	out := &specs.LinuxResources{Memory: memory(r), CPU: cpu(r), BlockIO: blockIO(r)}
	limit := int64(DefaultPids)
	if r.PidsLimit != nil {
		limit = *r.PidsLimit
	}
	if limit != 0 {
		out.Pids = &specs.LinuxPids{Limit: &limit}
	}
	return out
}

// Hugepages translates limits of huge pages, in bytes for each size.
func Hugepages(sizes map[string]uint64) (out []specs.LinuxHugepageLimit) {
	for _, size := range slices.Sorted(maps.Keys(sizes)) {
		out = append(out, specs.LinuxHugepageLimit{Pagesize: size, Limit: sizes[size]})
	}
	return out
}

// Ulimits translates limits of processes.
func Ulimits(list []*docker.Ulimit) []specs.POSIXRlimit {
	out := []specs.POSIXRlimit{}
	for _, u := range list {
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	return out
}

func memory(r *docker.Resources) *specs.LinuxMemory {
	m := &specs.LinuxMemory{}
	if r.Memory > 0 {
		m.Limit = &r.Memory
		if r.MemorySwap == 0 { // as much swap as memory, Docker's default
			twice := 2 * r.Memory
			m.Swap = &twice
		}
	}
	if r.MemorySwap != 0 {
		m.Swap = &r.MemorySwap
	}
	if r.MemoryReservation > 0 {
		m.Reservation = &r.MemoryReservation
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 {
		s := uint64(*r.MemorySwappiness)
		m.Swappiness = &s
	}
	m.DisableOOMKiller = r.OomKillDisable
	if *m == (specs.LinuxMemory{}) {
		return nil
	}
	return m
}

func cpu(r *docker.Resources) *specs.LinuxCPU {
	c := &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}
	if r.CPUShares > 0 {
		s := uint64(max(r.CPUShares, 2))
		c.Shares = &s
	}
	if r.NanoCPUs > 0 {
		period := uint64(100_000)
		quota := int64(math.Round(float64(r.NanoCPUs) * float64(period) / 1e9))
		c.Period, c.Quota = &period, &quota
	}
	if r.CPUPeriod != 0 {
		p := uint64(r.CPUPeriod)
		c.Period = &p
	}
	if r.CPUQuota != 0 {
		c.Quota = &r.CPUQuota
	}
	if r.CPURealtimePeriod != 0 {
		p := uint64(r.CPURealtimePeriod)
		c.RealtimePeriod = &p
	}
	if r.CPURealtimeRuntime != 0 {
		c.RealtimeRuntime = &r.CPURealtimeRuntime
	}
	if *c == (specs.LinuxCPU{}) {
		return nil
	}
	return c
}

func blockIO(r *docker.Resources) *specs.LinuxBlockIO {
	b := &specs.LinuxBlockIO{}
	used := false
	if r.BlkioWeight > 0 {
		b.Weight, used = &r.BlkioWeight, true
	}
	for _, w := range r.BlkioWeightDevice {
		if dev, ok := deviceNumber(w.Path); ok {
			d := specs.LinuxWeightDevice{Weight: &w.Weight}
			d.Major, d.Minor = dev[0], dev[1]
			b.WeightDevice, used = append(b.WeightDevice, d), true
		}
	}
	for _, list := range []struct {
		to   *[]specs.LinuxThrottleDevice
		from []*blkiodev.ThrottleDevice
	}{
		{&b.ThrottleReadBpsDevice, r.BlkioDeviceReadBps}, {&b.ThrottleWriteBpsDevice, r.BlkioDeviceWriteBps},
		{&b.ThrottleReadIOPSDevice, r.BlkioDeviceReadIOps}, {&b.ThrottleWriteIOPSDevice, r.BlkioDeviceWriteIOps},
	} {
		for _, t := range list.from {
			if dev, ok := deviceNumber(t.Path); ok {
				d := specs.LinuxThrottleDevice{Rate: t.Rate}
				d.Major, d.Minor = dev[0], dev[1]
				*list.to, used = append(*list.to, d), true
			}
		}
	}
	if !used {
		return nil
	}
	return b
}

func deviceNumber(path string) (out [2]int64, ok bool) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK && st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return out, false
	}
	return [2]int64{int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))}, true
}
