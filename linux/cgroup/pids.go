//go:build linux

package cgroup

import (
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func pidsV1(r *specs.LinuxResources) ([]setting, error) { return pids(r) }
func pidsV2(r *specs.LinuxResources) ([]setting, error) { return pids(r) }

// pids: both versions have one file; negative is unlimited.
func pids(r *specs.LinuxResources) ([]setting, error) {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil, nil
	}
	value := "max"
	if *r.Pids.Limit > 0 {
		value = strconv.FormatInt(*r.Pids.Limit, 10)
	} else if *r.Pids.Limit == 0 {
		return nil, nil
	}
	return []setting{{"pids", "pids.max", value}}, nil
}
