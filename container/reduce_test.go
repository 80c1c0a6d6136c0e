//go:build linux

package container

import (
	"encoding/json"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
)

// minimal is a specification that is accepted.
func minimal() *specs.Spec {
	return &specs.Spec{Version: specs.Version, Root: &specs.Root{Path: "rootfs"}, Process: &specs.Process{Args: []string{"sh"}, Cwd: "/"},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "mount"}, {Type: "pid"}}}}
}

func TestPlanRefusesContradictions(t *testing.T) {
	if _, err := NewPlan(minimal(), "/b"); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(s *specs.Spec){
		"version":     func(s *specs.Spec) { s.Version = "2.0.0" },
		"no root":     func(s *specs.Spec) { s.Root = nil },
		"no mount ns": func(s *specs.Spec) { s.Linux.Namespaces = nil },
		"twice": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "pid"})
		},
		"unknown ns": func(s *specs.Spec) { s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "x"}) },
		"host name":  func(s *specs.Spec) { s.Hostname = "x" },
		"maps":       func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} },
		"no maps": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: "user"})
		},
		"host's sysctl":   func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.panic": "1"} },
		"shared sysctl":   func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"} },
		"relative mask":   func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"proc"} },
		"mount on root":   func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/", Type: "tmpfs"}} },
		"bind of nothing": func(s *specs.Spec) { s.Mounts = []specs.Mount{{Destination: "/x", Type: "bind"}} },
		"maps of a tmpfs": func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Type: "tmpfs", Options: []string{"idmap"}}}
		},
		"idmap of none": func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", Source: "/", Options: []string{"bind", "idmap"}}}
		},
		"half a map": func(s *specs.Spec) {
			s.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", Source: "/", UIDMappings: []specs.LinuxIDMapping{{Size: 1}}}}
		},
		"device type":  func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/x", Type: "z"}} },
		"hook path":    func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "x"}}} },
		"no args":      func(s *specs.Spec) { s.Process.Args = nil },
		"relative cwd": func(s *specs.Spec) { s.Process.Cwd = "x" },
		"NUL":          func(s *specs.Spec) { s.Process.Args = []string{"a\x00b"} },
		"rlimit":       func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}} },
		"oom score":    func(s *specs.Spec) { n := 1001; s.Process.OOMScoreAdj = &n },
		"scheduler":    func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "x"} },
		"priority":     func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Priority: 1} },
		"nice":         func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 20} },
		"I/O class":    func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Class: "x"} },
		"I/O level": func(s *specs.Spec) {
			s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 8}
		},
		"memory policy": func(s *specs.Spec) { s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: "x"} },
		"nodes": func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0-x"}
		},
		"personality":    func(s *specs.Spec) { s.Linux.Personality = &specs.LinuxPersonality{Domain: "x"} },
		"resctrl":        func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} },
		"seccomp action": func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: "x"} },
		"affinity":       func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "x", Final: "0"} },
		"devices of the host's network in it": func(s *specs.Spec) {
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"lo": {}}
		},
		"time offsets":     func(s *specs.Spec) { s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {}} },
		"root propagation": func(s *specs.Spec) { s.Linux.RootfsPropagation = "x" },
	} {
		s := minimal()
		change(s)
		_, err := NewPlan(s, "/b")
		if !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Unsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBitmask(t *testing.T) {
	for list, want := range map[string][]uint64{"0": {1}, "0-2,5": {0b100111}, "64": {0, 1}, "": nil} {
		got, err := bitmask(list)
		if err != nil || len(got) != len(want) {
			t.Errorf("%q: %v, %v", list, got, err)
			continue
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q: %v", list, got)
			}
		}
	}
}

// A container that may not open every device still has those that each has.
func TestDefaultDevicesAreAllowed(t *testing.T) {
	s := minimal()
	s.Linux.Resources = &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	p, err := NewPlan(s, "/b")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Linux.Resources.Devices); n != 1 {
		t.Errorf("the caller's specification has %d rules now", n)
	}
	if n := len(p.Resources.Devices); n < 9 || p.Resources.Devices[0].Allow {
		t.Errorf("%d rules, the first %+v", n, p.Resources.Devices[0])
	}
}

// Whatever a specification holds, it is a plan or an error.
func FuzzPlan(f *testing.F) {
	b, err := json.Marshal(minimal())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(strings.Replace(string(b), `"args":["sh"]`, `"args":[""]`, 1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s specs.Spec
		if json.Unmarshal(b, &s) != nil {
			return
		}
		p, err := NewPlan(&s, "/b")
		if (p == nil) == (err == nil) {
			t.Errorf("a plan %v and an error %v", p != nil, err)
		}
	})
}
