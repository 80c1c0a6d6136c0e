//go:build linux

package cgroup

import (
	"os"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func pidsV1(r *specs.LinuxResources) ([]setting, error) { return pids(r) }
func pidsV2(r *specs.LinuxResources) ([]setting, error) { return pids(r) }

// pids: both versions have one file; negative is unlimited, and 0 means 1, as in runc: systemd knows no 0.
func pids(r *specs.LinuxResources) ([]setting, error) {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil, nil
	}
	value := "max"
	if *r.Pids.Limit >= 0 {
		value = strconv.FormatInt(max(1, *r.Pids.Limit), 10)
	}
	return []setting{{"pids", "pids.max", value}}, nil
}

// PidsLimit opens the file of the limit of processes, for one write by whoever has the descriptor: what it may do was
// asked when it was opened.
func (g *Group) PidsLimit() (*os.File, error) {
	return os.OpenFile(g.dirOf("pids")+"/pids.max", os.O_WRONLY, 0)
}
