//go:build linux

package seccomp

import (
	"encoding/binary"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/caps"
	"github.com/berth-containers/berth/linux/seccomp/profile"
)

// machine runs a filter as the kernel does. x/net/bpf reads big-endian, seccomp the CPU's order, so words are swapped.
type machine struct {
	t  *testing.T
	vm *bpf.VM
}

func compile(t *testing.T, p *specs.LinuxSeccomp) *machine {
	t.Helper()
	c, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	var raw []bpf.RawInstruction
	for _, f := range c.Filter() {
		raw = append(raw, bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K})
	}
	ins, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatalf("not all of %v is understood", ins)
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatal(err)
	}
	return &machine{t, vm}
}

func (m *machine) run(audit, nr uint32, args ...uint64) uint32 {
	m.t.Helper()
	data := binary.BigEndian.AppendUint32(nil, nr)
	data = binary.BigEndian.AppendUint32(data, audit)
	data = append(data, make([]byte, 8)...)
	for i := range 6 {
		var v uint64
		if i < len(args) {
			v = args[i]
		}
		data = binary.BigEndian.AppendUint32(data, uint32(v)) // the low word comes first
		data = binary.BigEndian.AppendUint32(data, uint32(v>>32))
	}
	n, err := m.vm.Run(data)
	if err != nil {
		m.t.Fatal(err)
	}
	return uint32(n)
}

const eperm, enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// Every number's verdict under the default profile is what the list says.
func TestDefaultProfileByNumber(t *testing.T) {
	p, err := profile.Default(caps.Default())
	if err != nil {
		t.Fatal(err)
	}
	m := compile(t, p)
	native := arches()[0]
	always, names := map[uint32]bool{}, map[uint32]string{}
	highest := uint32(0)
	numbers := native.numbers()
	for name, n := range numbers {
		names[n] = name
	}
	for _, r := range p.Syscalls {
		for _, name := range r.Names {
			if n, ok := numbers[name]; ok {
				highest = max(highest, n)
				if len(r.Args) == 0 && r.Action == specs.ActAllow {
					always[n] = true
				}
			}
		}
	}
	for n := range highest + 50 {
		got := m.run(native.audit, n)
		switch {
		case always[n] && got != unix.SECCOMP_RET_ALLOW:
			t.Errorf("%s (%d) gives %x, want allow", names[n], n, got)
		case n > highest && got != enosys:
			t.Errorf("%d, which nobody knows, gives %x, want ENOSYS", n, got)
		}
	}
	for _, denied := range []string{"bpf", "mount", "umount2", "unshare", "setns", "keyctl", "add_key", "io_uring_setup", "kexec_load",
		"open_by_handle_at", "perf_event_open", "reboot", "swapon", "userfaultfd", "init_module", "fsopen", "move_mount", "open_tree", "pivot_root"} {
		if got := m.run(native.audit, numbers[denied]); got != eperm {
			t.Errorf("%s gives %x, want EPERM", denied, got)
		}
	}
	if got := m.run(native.audit, numbers["clone3"]); got != enosys {
		t.Errorf("clone3 gives %x, want ENOSYS", got)
	}
	for flags, want := range map[uint64]uint32{uint64(unix.SIGCHLD): unix.SECCOMP_RET_ALLOW, unix.CLONE_NEWUSER: eperm, unix.CLONE_NEWNS | uint64(unix.SIGCHLD): eperm} {
		if got := m.run(native.audit, numbers["clone"], flags); got != want {
			t.Errorf("clone(%x) gives %x, want %x", flags, got, want)
		}
	}
	for family, want := range map[uint64]uint32{unix.AF_INET: unix.SECCOMP_RET_ALLOW, unix.AF_UNIX: unix.SECCOMP_RET_ALLOW, unix.AF_VSOCK: eperm, unix.AF_ALG: eperm} {
		if got := m.run(native.audit, numbers["socket"], family); got != want {
			t.Errorf("socket(%d) gives %x, want %x", family, got, want)
		}
	}
	if got := m.run(arches()[1].audit, numbers["read"]); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("a call of the other architecture gives %x", got)
	}
	if runtime.GOARCH == "amd64" {
		if got := m.run(native.audit, x32Bit|numbers["read"]); got == unix.SECCOMP_RET_ALLOW {
			t.Error("an x32 call is allowed")
		}
	}
}

func TestOperators(t *testing.T) {
	const big = 1<<40 + 5
	native := arches()[0]
	nr := native.numbers()["getpid"]
	for _, c := range []struct {
		op      specs.LinuxSeccompOperator
		v, two  uint64
		yes, no []uint64
	}{
		{specs.OpEqualTo, big, 0, []uint64{big}, []uint64{5, big + 1, 1 << 40}},
		{specs.OpNotEqual, big, 0, []uint64{5, big + 1, 0}, []uint64{big}},
		{specs.OpLessThan, big, 0, []uint64{0, big - 1, 1 << 40, 1 << 39}, []uint64{big, big + 1, 1 << 41}},
		{specs.OpLessEqual, big, 0, []uint64{big, big - 1, 0}, []uint64{big + 1, 1 << 41}},
		{specs.OpGreaterThan, big, 0, []uint64{big + 1, 1 << 41}, []uint64{big, big - 1, 0}},
		{specs.OpGreaterEqual, big, 0, []uint64{big, big + 1, 1 << 41}, []uint64{big - 1, 0, 1 << 39}},
		{specs.OpMaskedEqual, 0xff00000000, 0x0100000000, []uint64{0x0100000000, 0x01ffffffff}, []uint64{0x0200000000, 0}},
	} {
		m := compile(t, &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"getpid"},
			Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 3, Value: c.v, ValueTwo: c.two, Op: c.op}}}}})
		for want, values := range map[uint32][]uint64{eperm: c.yes, unix.SECCOMP_RET_ALLOW: c.no} {
			for _, v := range values {
				if got := m.run(native.audit, nr, 0, 0, 0, v); got != want {
					t.Errorf("%s %x with %x gives %x, want %x", c.op, c.v, v, got, want)
				}
			}
		}
	}
}

func TestBadProfilesAreRefused(t *testing.T) {
	ok := func() *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read", "no_such_call"}, Action: specs.ActErrno}}}
	}
	if _, err := Compile(ok()); err != nil {
		t.Errorf("an unknown call: %v", err)
	}
	for what, spoil := range map[string]func(*specs.LinuxSeccomp){
		"default action": func(p *specs.LinuxSeccomp) { p.DefaultAction = "SCMP_ACT_MAYBE" },
		"default notify": func(p *specs.LinuxSeccomp) { p.DefaultAction = specs.ActNotify },
		"action":         func(p *specs.LinuxSeccomp) { p.Syscalls[0].Action = "" },
		"no names":       func(p *specs.LinuxSeccomp) { p.Syscalls[0].Names = nil },
		"argument number": func(p *specs.LinuxSeccomp) {
			p.Syscalls[0].Args = []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}
		},
		"operator": func(p *specs.LinuxSeccomp) { p.Syscalls[0].Args = []specs.LinuxSeccompArg{{Op: "~"}} },
		"flag":     func(p *specs.LinuxSeccomp) { p.Flags = []specs.LinuxSeccompFlag{"X"} },
	} {
		p := ok()
		spoil(p)
		if _, err := Compile(p); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The kernel takes the filter, and a program under it still runs.
func TestKernelTakesIt(t *testing.T) {
	if os.Getenv("SECCOMP_TEST") != "" {
		runtime.LockOSThread()
		p, err := profile.Default(caps.Default())
		if err != nil {
			t.Fatal(err)
		}
		c, err := Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Load(); err != nil {
			t.Fatal(err)
		}
		t.Fatal(unix.Exec("/bin/sh", []string{"sh", "-c", "grep ^Seccomp: /proc/self/status; unshare -U true 2>&1 || echo $?"}, os.Environ()))
	}
	c := exec.Command(os.Args[0], "-test.run=TestKernelTakesIt")
	c.Env = append(os.Environ(), "SECCOMP_TEST=1")
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Seccomp:\t2") || !strings.Contains(string(out), "not permitted") {
		t.Errorf("%v: %s", err, out)
	}
}

func BenchmarkCompileDefault(b *testing.B) {
	p, err := profile.Default(caps.Default())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}
