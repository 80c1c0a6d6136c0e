//go:build linux

package container

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/cgroup"
)

// MemoryPolicy is where a process's memory comes from (set_mempolicy(2)).
type MemoryPolicy struct {
	Mode  uint64   `json:"mode"`            // with its flags
	Nodes []uint64 `json:"nodes,omitempty"` // mask, 64 nodes each
}

// memoryModes are set_mempolicy(2)'s in the order of their numbers, memoryFlags in that of their bits.
var (
	memoryModes = [...]string{"MPOL_DEFAULT", "MPOL_PREFERRED", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"}
	memoryFlags = [...]string{"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"}
)

const firstMemoryFlag = 13

// MemoryPolicies lists the modes and flags of memory policies, for the features of a runtime.
func MemoryPolicies() (modes, flags []string) { return memoryModes[:], memoryFlags[:] }

// newScheduler reads process.scheduler (config.md, sched_setattr(2)).
func newScheduler(in *specs.Scheduler) (*unix.SchedAttr, error) {
	if in == nil {
		return nil, nil
	}
	policies := map[specs.LinuxSchedulerPolicy]uint32{specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3, specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6}
	flags := map[specs.LinuxSchedulerFlag]uint64{specs.SchedFlagResetOnFork: 1, specs.SchedFlagReclaim: 2, specs.SchedFlagDLOverrun: 4, specs.SchedFlagKeepPolicy: 8,
		specs.SchedFlagKeepParams: 0x10, specs.SchedFlagUtilClampMin: 0x20, specs.SchedFlagUtilClampMax: 0x40}
	policy, ok := policies[in.Policy]
	if !ok {
		return nil, invalid("scheduler policy %q is unknown", in.Policy)
	}
	realtime := in.Policy == specs.SchedFIFO || in.Policy == specs.SchedRR
	switch {
	case in.Nice < -20 || in.Nice > 19:
		return nil, invalid("scheduler.nice must be between -20 and 19")
	case in.Priority != 0 && !realtime:
		return nil, invalid("scheduler.priority can only be specified for SCHED_FIFO or SCHED_RR policy")
	case (in.Runtime != 0 || in.Deadline != 0 || in.Period != 0) && in.Policy != specs.SchedDeadline:
		return nil, invalid("scheduler runtime/deadline/period can only be specified for SCHED_DEADLINE policy")
	}
	out := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Nice: in.Nice, Priority: uint32(in.Priority), Runtime: in.Runtime, Deadline: in.Deadline, Period: in.Period}
	for _, f := range in.Flags {
		bit, ok := flags[f]
		if !ok {
			return nil, invalid("scheduler flag %q is unknown", f)
		}
		out.Flags |= bit
	}
	return out, nil
}

// newIOPriority reads process.ioPriority as ioprio_set(2) takes it.
func newIOPriority(in *specs.LinuxIOPriority) (*int, error) {
	if in == nil {
		return nil, nil
	}
	class, ok := map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}[in.Class]
	if !ok {
		return nil, invalid("ioPriority class %q is unknown", in.Class)
	}
	if in.Priority < 0 || in.Priority > 7 {
		return nil, invalid("ioPriority %d is not between 0 and 7", in.Priority)
	}
	out := class<<13 | in.Priority
	return &out, nil
}

func (p *Plan) policies(linux *specs.Linux) error {
	if pers := linux.Personality; pers != nil {
		domain, ok := map[specs.LinuxPersonalityDomain]uint32{specs.PerLinux: 0, specs.PerLinux32: 8}[pers.Domain]
		if !ok || len(pers.Flags) > 0 {
			return invalid("personality %s with flags %v is not supported", pers.Domain, pers.Flags)
		}
		p.Personality = &domain
	}
	in := linux.MemoryPolicy
	if in == nil {
		return nil
	}
	number := slices.Index(memoryModes[:], string(in.Mode))
	if number < 0 {
		return invalid("invalid memory policy mode %q", in.Mode)
	}
	mode := uint64(number)
	for _, f := range in.Flags {
		bit := slices.Index(memoryFlags[:], string(f))
		if bit < 0 {
			return invalid("invalid memory policy flag %q", f)
		}
		mode |= 1 << (firstMemoryFlag + bit)
	}
	mask, err := bitmask(in.Nodes)
	if err != nil {
		return errs.Wrap("invalid memory policy node", err)
	}
	if n := bitsOf(mask); n > 0 && (in.Mode == specs.MpolDefault || in.Mode == specs.MpolLocal) {
		return invalid("invalid memory policy: %s mode requires 0 nodes but got %d", in.Mode, n)
	}
	p.MemoryPolicy = &MemoryPolicy{mode, mask}
	return nil
}

func bitsOf(mask []uint64) (n int) {
	for _, m := range mask {
		n += bits.OnesCount64(m)
	}
	return n
}

// bitmask makes a mask of a list like 0-3,7.
func bitmask(list string) ([]uint64, error) {
	if list == "" {
		return nil, nil
	}
	if err := cgroup.CheckList(list); err != nil {
		return nil, err
	}
	var mask []uint64
	for _, part := range strings.Split(list, ",") {
		first, last, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if !ranged {
			last = first
		}
		a, err := strconv.Atoi(first)
		b, err2 := strconv.Atoi(last)
		if err != nil || err2 != nil || b > 1<<16 {
			return nil, invalid("%q is no list of numbers", list)
		}
		for n := a; n <= b; n++ {
			for len(mask) <= n/64 {
				mask = append(mask, 0)
			}
			mask[n/64] |= 1 << (n % 64)
		}
	}
	return mask, nil
}

// setSchedule sets what execve keeps of how the program is scheduled and where its memory comes from.
func (p *initProcess) setSchedule() error {
	if s := p.Process.Scheduler; s != nil {
		err := trace.Step("sched_setattr", "how the program shares the CPUs", "policy", s.Policy, "nice", s.Nice, "priority", s.Priority).
			Do(func() error { return unix.SchedSetAttr(0, s, 0) })
		if err != nil {
			return errs.Wrap("set scheduler", err)
		}
	}
	if prio := p.Process.IOPriority; prio != nil {
		err := trace.Step("ioprio_set", "how the program shares the disks", "class", *prio>>13, "level", *prio&7).Do(func() error {
			return result(unix.RawSyscall(unix.SYS_IOPRIO_SET, 1, 0, uintptr(*prio))) // IOPRIO_WHO_PROCESS, this thread
		})
		if err != nil {
			return errs.Wrap("set I/O priority", err)
		}
	}
	if m := p.MemoryPolicy; m != nil {
		err := trace.Step("set_mempolicy", "which nodes the program's memory comes from", "mode", m.Mode, "nodes", fmt.Sprintf("%x", m.Nodes)).Do(func() error {
			n := uintptr(0)
			if len(m.Nodes) > 0 {
				n = uintptr(64*len(m.Nodes)) + 1 // the kernel takes one less
			}
			return result(unix.RawSyscall(unix.SYS_SET_MEMPOLICY, uintptr(m.Mode), uintptr(unsafe.Pointer(unsafe.SliceData(m.Nodes))), n))
		})
		if err != nil {
			return errs.Wrap("set memory policy", err)
		}
	}
	if p.Personality == nil {
		return nil
	}
	err := trace.Step("personality", "what uname says of the machine", "domain", *p.Personality).
		Do(func() error { return result(unix.RawSyscall(unix.SYS_PERSONALITY, uintptr(*p.Personality), 0, 0)) })
	return errs.Wrap("set personality", err)
}

func result(_, _ uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// resetAffinity lets a process use all CPUs of its control group: those that its caller is bound to are not its own.
func (p *initProcess) resetAffinity() error {
	all := slices.Repeat([]uint64{^uint64(0)}, 128) // 8192 CPUs, more than any kernel has
	_ = trace.Step("sched_setaffinity", "all CPUs of the control group, whatever the caller is bound to").Do(func() error {
		return result(unix.RawSyscall(unix.SYS_SCHED_SETAFFINITY, 0, uintptr(8*len(all)), uintptr(unsafe.Pointer(&all[0]))))
	})
	return nil // where it is denied, it stays
}

// setAffinity binds a further process to CPUs (config.md, execCPUAffinity).
func (p *initProcess) setAffinity() error {
	if len(p.Process.Affinity) == 0 {
		return p.resetAffinity()
	}
	err := trace.Step("sched_setaffinity", "the CPUs that this process may use", "mask", fmt.Sprintf("%x", p.Process.Affinity)).Do(func() error {
		mask := p.Process.Affinity
		return result(unix.RawSyscall(unix.SYS_SCHED_SETAFFINITY, 0, uintptr(8*len(mask)), uintptr(unsafe.Pointer(&mask[0]))))
	})
	return errs.Wrap("set CPU affinity", err)
}
