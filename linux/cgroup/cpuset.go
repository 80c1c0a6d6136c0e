//go:build linux

package cgroup

import (
	"fmt"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
)

func cpusetV1(r *specs.LinuxResources) ([]setting, error) { return cpuset(r) }
func cpusetV2(r *specs.LinuxResources) ([]setting, error) { return cpuset(r) }

func cpuset(r *specs.LinuxResources) ([]setting, error) {
	if r.CPU == nil {
		return nil, nil
	}
	var out []setting
	for _, s := range []setting{{"cpuset", "cpuset.cpus", r.CPU.Cpus}, {"cpuset", "cpuset.mems", r.CPU.Mems}} {
		if s.value == "" {
			continue
		}
		if err := CheckList(s.value); err != nil {
			return nil, errs.Wrap("set "+s.file, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// maxCPU is beyond any kernel's NR_CPUS.
const maxCPU = 1 << 16

// CheckList checks a list like 0-3,7 without ever building it: 0-9999999999 is refused, not allocated (CVE-2018-20699).
func CheckList(list string) error {
	bad := func() error {
		return errs.New(errs.Invalid, "read list "+strconv.Quote(list), fmt.Errorf("want numbers and ranges, as 0-3,7"))
	}
	for _, part := range strings.Split(list, ",") {
		a, b, isRange := strings.Cut(part, "-")
		if !isRange {
			b = a
		}
		first, e1 := strconv.ParseUint(strings.TrimSpace(a), 10, 32)
		last, e2 := strconv.ParseUint(strings.TrimSpace(b), 10, 32)
		if e1 != nil || e2 != nil || last < first || last >= maxCPU {
			return bad()
		}
	}
	return nil
}

// Within reports whether every number of a list is in another, as a user's --cpuset-cpus in the host's CPUs.
func Within(list, host string) bool {
	var have [maxCPU / 64]uint64
	each(host, func(n uint64) { have[n/64] |= 1 << (n % 64) })
	ok := true
	each(list, func(n uint64) { ok = ok && have[n/64]&(1<<(n%64)) != 0 })
	return ok
}

// each visits the numbers of a list that CheckList passed.
func each(list string, visit func(uint64)) {
	for _, part := range strings.Split(list, ",") {
		a, b, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			b = a
		}
		first, e1 := strconv.ParseUint(strings.TrimSpace(a), 10, 32)
		last, e2 := strconv.ParseUint(strings.TrimSpace(b), 10, 32)
		if e1 != nil || e2 != nil {
			continue
		}
		for n := first; n <= last && n < maxCPU; n++ {
			visit(n)
		}
	}
}
