//go:build linux

package cgroup

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
)

// memoryV1: memory.memsw counts memory and swap together and may never be below memory.limit, so raising begins with
// the one and lowering with the other.
func (g *Group) memoryV1(r *specs.LinuxResources) ([]setting, error) {
	m := r.Memory
	if m == nil {
		return nil, nil
	}
	if err := g.checkBeforeUpdate(m, "memory.usage_in_bytes"); err != nil {
		return nil, err
	}
	var out []setting
	add := func(file string, v *int64) {
		if v != nil && *v != 0 {
			out = append(out, setting{"memory", file, strconv.FormatInt(*v, 10)})
		}
	}
	limit, swap := m.Limit, m.Swap
	// Without a limit there is none for both together either.
	if limit != nil && *limit == -1 && swap == nil && g.has("memory", "memory.memsw.limit_in_bytes") {
		swap = limit
	}
	if limit != nil && swap != nil && g.raises(*swap) {
		add("memory.memsw.limit_in_bytes", swap)
		add("memory.limit_in_bytes", limit)
	} else {
		add("memory.limit_in_bytes", limit)
		add("memory.memsw.limit_in_bytes", swap)
	}
	add("memory.soft_limit_in_bytes", m.Reservation)
	add("memory.kmem.tcp.limit_in_bytes", m.KernelTCP)
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		out = append(out, setting{"memory", "memory.oom_control", "1"})
	}
	if m.Swappiness != nil {
		if *m.Swappiness > 100 {
			return nil, errs.New(errs.Invalid, "limit memory", fmt.Errorf("swappiness %d is not between 0 and 100", *m.Swappiness))
		}
		out = append(out, setting{"memory", "memory.swappiness", strconv.FormatUint(*m.Swappiness, 10)})
	}
	return out, nil
}

// memoryV2: memory.swap.max counts swap alone; the specification counts both together, as version 1 does.
func (g *Group) memoryV2(r *specs.LinuxResources) ([]setting, error) {
	m := r.Memory
	if m == nil {
		return nil, nil
	}
	if err := g.checkBeforeUpdate(m, "memory.current"); err != nil {
		return nil, err
	}
	var out []setting
	add := func(file string, v int64) {
		value := "max"
		if v != -1 {
			value = strconv.FormatInt(v, 10)
		}
		out = append(out, setting{"memory", file, value})
	}
	swap, ok, err := swapV2(m)
	if err != nil {
		return nil, err
	}
	// Without swap in this kernel a limit of swap holds anyway.
	if ok && (swap != 0 || g.has("memory", "memory.swap.max")) {
		add("memory.swap.max", swap)
	}
	if m.Limit != nil && *m.Limit != 0 {
		add("memory.max", *m.Limit)
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		add("memory.low", *m.Reservation)
	}
	return out, nil
}

func swapV2(m *specs.LinuxMemory) (swap int64, ok bool, err error) {
	switch {
	case m.Limit != nil && *m.Limit == -1 && m.Swap == nil:
		return -1, true, nil
	case m.Swap == nil || *m.Swap == 0:
		return 0, false, nil
	case *m.Swap == -1:
		return -1, true, nil
	case m.Limit == nil || *m.Limit <= 0:
		return 0, false, errs.New(errs.Invalid, "limit memory", fmt.Errorf("a limit of memory and swap needs a limit of memory"))
	case *m.Swap < *m.Limit:
		return 0, false, errs.New(errs.Invalid, "limit memory", fmt.Errorf("memory and swap together (%d) are less than memory (%d)", *m.Swap, *m.Limit))
	}
	return *m.Swap - *m.Limit, true, nil
}

// checkBeforeUpdate refuses a limit below what is used, where that was asked for.
func (g *Group) checkBeforeUpdate(m *specs.LinuxMemory, file string) error {
	if m.CheckBeforeUpdate == nil || !*m.CheckBeforeUpdate || m.Limit == nil || *m.Limit <= 0 {
		return nil
	}
	if used, ok := g.number("memory", file); ok && used > uint64(*m.Limit) {
		return errs.New(errs.Invalid, "limit memory", fmt.Errorf("%d bytes are in use, more than the limit %d", used, *m.Limit))
	}
	return nil
}

// raises tells whether a new limit of memory and swap is above the one in force.
func (g *Group) raises(swap int64) bool {
	now, ok := g.number("memory", "memory.memsw.limit_in_bytes")
	return ok && (swap == -1 || uint64(swap) > now)
}

func (g *Group) has(controller, file string) bool {
	_, err := os.Lstat(g.dirOf(controller) + "/" + file)
	return err == nil
}

// number reads a file with one number; "max" is the largest.
func (g *Group) number(controller, file string) (uint64, bool) {
	b, err := os.ReadFile(g.dirOf(controller) + "/" + file)
	if err != nil {
		return 0, false
	}
	s := strings.TrimSpace(string(b))
	if s == "max" {
		return 1<<64 - 1, true
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}
