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

func hugetlbV1(r *specs.LinuxResources) ([]setting, error) { return hugetlb(r, ".limit_in_bytes") }
func hugetlbV2(r *specs.LinuxResources) ([]setting, error) { return hugetlb(r, ".max") }

// hugetlb: one file for each size of page that the kernel has, as hugetlb.2MB.max.
func hugetlb(r *specs.LinuxResources, end string) ([]setting, error) {
	var out []setting
	for _, h := range r.HugepageLimits {
		if strings.ContainsAny(h.Pagesize, "/.") || h.Pagesize == "" {
			return nil, errs.New(errs.Invalid, "limit huge pages", fmt.Errorf("%q is no page size", h.Pagesize))
		}
		out = append(out, setting{"hugetlb", "hugetlb." + h.Pagesize + end, strconv.FormatUint(h.Limit, 10)})
	}
	return out, nil
}

// rdma: both versions have rdma.max.
func rdma(r *specs.LinuxResources) ([]setting, error) {
	var out []setting
	for _, dev := range sortedKeys(r.Rdma) {
		value := dev
		if n := r.Rdma[dev].HcaHandles; n != nil {
			value += fmt.Sprintf(" hca_handle=%d", *n)
		}
		if n := r.Rdma[dev].HcaObjects; n != nil {
			value += fmt.Sprintf(" hca_object=%d", *n)
		}
		out = append(out, setting{"rdma", "rdma.max", value})
	}
	return out, nil
}

// netV1: net_cls and net_prio exist in version 1 alone.
func netV1(r *specs.LinuxResources) ([]setting, error) {
	if r.Network == nil {
		return nil, nil
	}
	var out []setting
	if id := r.Network.ClassID; id != nil && *id != 0 {
		out = append(out, setting{"net_cls", "net_cls.classid", strconv.FormatUint(uint64(*id), 10)})
	}
	for _, p := range r.Network.Priorities {
		out = append(out, setting{"net_prio", "net_prio.ifpriomap", fmt.Sprintf("%s %d", p.Name, p.Priority)})
	}
	return out, nil
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}
