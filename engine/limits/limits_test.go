//go:build linux

package limits

import (
	"testing"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/internal/errs"
)

func TestCheck(t *testing.T) {
	pids, swappiness := int64(-2), int64(101)
	for name, r := range map[string]docker.Resources{
		"memory": {Memory: 1024}, "swap below memory": {Memory: 64 << 20, MemorySwap: 32 << 20}, "swap alone": {MemorySwap: 64 << 20},
		"reservation": {MemoryReservation: 1}, "reservation above": {Memory: 32 << 20, MemoryReservation: 64 << 20}, "swappiness": {MemorySwappiness: &swappiness},
		"cpus and period": {NanoCPUs: 1e9, CPUPeriod: 1000}, "cpus": {NanoCPUs: 1}, "period": {CPUPeriod: 1}, "quota": {CPUQuota: 1}, "shares": {CPUShares: -1},
		"blkio": {BlkioWeight: 9}, "pids": {PidsLimit: &pids}, "cpuset": {CpusetCpus: "9999"}, "cpuset text": {CpusetCpus: "a-b"}, "mems": {CpusetMems: "999"},
	} {
		if err := Check(&r); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Check(&docker.Resources{Memory: 64 << 20, NanoCPUs: 5e8, CPUShares: 512, BlkioWeight: 500}); err != nil {
		t.Error(err)
	}
}

func TestSpec(t *testing.T) {
	s := Spec(&docker.Resources{Memory: 64 << 20, NanoCPUs: 15e8})
	if *s.Memory.Limit != 64<<20 || *s.Memory.Swap != 128<<20 || *s.CPU.Quota != 150_000 || *s.CPU.Period != 100_000 || *s.Pids.Limit != DefaultPids || s.BlockIO != nil {
		t.Errorf("%+v %+v", s.Memory, s.CPU)
	}
	if s := Spec(&docker.Resources{}); s.Memory != nil || s.CPU != nil {
		t.Errorf("nothing asked: %+v", s)
	}
}

func TestParseDeviceRule(t *testing.T) {
	for _, bad := range []string{"", "c", "c 1:2", "x 1:2 r", "c 1 r", "c 1:2 q", "c -1:2 r", "c 1:b r", "cc 1:2 r"} {
		if _, err := ParseDeviceRule(bad); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	d, err := ParseDeviceRule("c 42:* rm")
	if err != nil || d.Type != "c" || *d.Major != 42 || d.Minor != nil || d.Access != "rm" || !d.Allow {
		t.Errorf("%+v, %v", d, err)
	}
}
