//go:build linux

package cgroup

import (
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
)

// throttles are the four limits per device, with their names in version 1 and their keys in io.max of version 2.
func throttles(b *specs.LinuxBlockIO) [4]struct {
	v1, v2 string
	list   []specs.LinuxThrottleDevice
} {
	return [4]struct {
		v1, v2 string
		list   []specs.LinuxThrottleDevice
	}{
		{"blkio.throttle.read_bps_device", "rbps", b.ThrottleReadBpsDevice},
		{"blkio.throttle.write_bps_device", "wbps", b.ThrottleWriteBpsDevice},
		{"blkio.throttle.read_iops_device", "riops", b.ThrottleReadIOPSDevice},
		{"blkio.throttle.write_iops_device", "wiops", b.ThrottleWriteIOPSDevice},
	}
}

func checkWeight(w *uint16) error {
	if w != nil && *w != 0 && (*w < 10 || *w > 1000) {
		return errs.New(errs.Invalid, "limit block I/O", fmt.Errorf("weight %d is not between 10 and 1000", *w))
	}
	return nil
}

func (g *Group) ioV1(r *specs.LinuxResources) ([]setting, error) {
	b := r.BlockIO
	if b == nil {
		return nil, nil
	}
	var out []setting
	add := func(file, value string) { out = append(out, setting{"blkio", file, value}) }
	for file, w := range map[string]*uint16{"weight": b.Weight, "leaf_weight": b.LeafWeight} {
		if err := checkWeight(w); err != nil {
			return nil, err
		}
		if w != nil && *w != 0 {
			add("blkio."+g.weightPrefix(file)+file, strconv.Itoa(int(*w)))
		}
	}
	for _, d := range b.WeightDevice {
		if err := checkWeight(d.Weight); err != nil {
			return nil, err
		}
		if d.Weight != nil {
			add("blkio."+g.weightPrefix("weight_device")+"weight_device", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.Weight))
		}
		if d.LeafWeight != nil {
			add("blkio."+g.weightPrefix("leaf_weight_device")+"leaf_weight_device", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.LeafWeight))
		}
	}
	for _, t := range throttles(b) {
		for _, d := range t.list {
			add(t.v1, fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate))
		}
	}
	return out, nil
}

// weightPrefix: since the CFQ scheduler is gone, BFQ's files are the ones with weights. A root group has no weight, so only
// the group itself tells.
func (g *Group) weightPrefix(file string) string {
	if g.has("blkio", "blkio.bfq."+file) {
		return "bfq."
	}
	return ""
}

func (g *Group) ioV2(r *specs.LinuxResources) ([]setting, error) {
	b := r.BlockIO
	if b == nil {
		return nil, nil
	}
	var out []setting
	add := func(file, value string) { out = append(out, setting{"io", file, value}) }
	if err := checkWeight(b.Weight); err != nil {
		return nil, err
	}
	bfq := g.has("io", "io.bfq.weight")
	if b.Weight != nil && *b.Weight != 0 {
		if bfq {
			add("io.bfq.weight", strconv.Itoa(int(*b.Weight)))
		} else {
			add("io.weight", strconv.FormatUint(ioWeight(*b.Weight), 10))
		}
	}
	for _, d := range b.WeightDevice {
		if err := checkWeight(d.Weight); err != nil {
			return nil, err
		}
		if d.Weight == nil {
			continue
		}
		if bfq {
			add("io.bfq.weight", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, *d.Weight))
		} else {
			add("io.weight", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, ioWeight(*d.Weight)))
		}
	}
	for _, t := range throttles(b) {
		for _, d := range t.list {
			rate := "max"
			if d.Rate != 0 {
				rate = strconv.FormatUint(d.Rate, 10)
			}
			add("io.max", fmt.Sprintf("%d:%d %s=%s", d.Major, d.Minor, t.v2, rate))
		}
	}
	return out, nil
}

// ioWeight converts blkio.weight (10 to 1000) to io.weight (1 to 10000) as runc does.
func ioWeight(w uint16) uint64 { return 1 + (uint64(w)-10)*9999/990 }
