//go:build linux

package cgroup

import (
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func cpuV1(r *specs.LinuxResources) ([]setting, error) {
	c := r.CPU
	if c == nil {
		return nil, nil
	}
	var out []setting
	add := func(file, value string) { out = append(out, setting{"cpu", file, value}) }
	if c.Shares != nil && *c.Shares != 0 {
		add("cpu.shares", strconv.FormatUint(*c.Shares, 10))
	}
	if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		add("cpu.rt_period_us", strconv.FormatUint(*c.RealtimePeriod, 10))
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
		add(realTime, strconv.FormatInt(*c.RealtimeRuntime, 10))
	}
	if c.Period != nil && *c.Period != 0 {
		add("cpu.cfs_period_us", strconv.FormatUint(*c.Period, 10))
	}
	if c.Quota != nil && *c.Quota != 0 {
		add("cpu.cfs_quota_us", strconv.FormatInt(*c.Quota, 10))
	}
	if c.Burst != nil {
		add("cpu.cfs_burst_us", strconv.FormatUint(*c.Burst, 10))
	}
	if c.Idle != nil {
		add("cpu.idle", strconv.FormatInt(*c.Idle, 10))
	}
	return out, nil
}

// realTime is how long in each period a group's real-time tasks may run, in microseconds; version 1 only.
const realTime = "cpu.rt_runtime_us"

// writeRealTime gives a group real time. It is a part of what the group above has, which is nothing at first: the groups up to
// the hierarchy's root get as much more (Documentation/scheduler/sched-rt-group.rst).
func writeRealTime(dir, value string) error {
	err := writeFile(dir+"/"+realTime, value)
	above := path.Dir(dir)
	if !isErrno(err, unix.EINVAL) || !exists(path.Dir(above)+"/"+realTime) {
		return err
	}
	want, _ := strconv.Atoi(value)
	more, period := want-number(dir+"/"+realTime), number(dir+"/cpu.rt_period_us")
	if period <= 0 || writeRealTime(above, strconv.Itoa(number(above+"/"+realTime)+more*number(above+"/cpu.rt_period_us")/period)) != nil {
		return err
	}
	return writeFile(dir+"/"+realTime, value)
}

// number reads a file that has one; 0 when it has none.
func number(file string) int {
	b, _ := os.ReadFile(file)
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

func cpuV2(r *specs.LinuxResources) ([]setting, error) {
	c := r.CPU
	if c == nil {
		return nil, nil
	}
	var out []setting
	add := func(file, value string) { out = append(out, setting{"cpu", file, value}) }
	if c.Idle != nil {
		add("cpu.idle", strconv.FormatInt(*c.Idle, 10))
	}
	// An idle group has no weight; the kernel would refuse one.
	if c.Shares != nil && *c.Shares != 0 && (c.Idle == nil || *c.Idle == 0) {
		add("cpu.weight", strconv.FormatUint(SharesToWeight(*c.Shares), 10))
	}
	if (c.Quota != nil && *c.Quota != 0) || (c.Period != nil && *c.Period != 0) {
		value := "max"
		if c.Quota != nil && *c.Quota > 0 {
			value = strconv.FormatInt(*c.Quota, 10)
		}
		period := uint64(100000)
		if c.Period != nil && *c.Period != 0 {
			period = *c.Period
		}
		add("cpu.max", value+" "+strconv.FormatUint(period, 10))
	}
	if c.Burst != nil {
		add("cpu.max.burst", strconv.FormatUint(*c.Burst, 10))
	}
	return out, nil
}

// SharesToWeight converts cpu.shares (2 to 262144, 1024 is normal) to cpu.weight (1 to 10000, 100 is normal) by the
// curve that runc 1.3 and crun use: a quadratic in the logarithms through (2, 1), (1024, 100) and (262144, 10000).
func SharesToWeight(shares uint64) uint64 {
	switch {
	case shares == 0:
		return 0
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	return curve(shares)
}
