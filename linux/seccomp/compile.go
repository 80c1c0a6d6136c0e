//go:build linux

package seccomp

import (
	"fmt"
	"sort"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Program is a compiled filter. Its JSON is small, because it travels to the process that loads it.
type Program struct {
	Code   []byte `json:"code"`            // instructions of 8 bytes, struct sock_filter
	Flags  uint32 `json:"flags,omitempty"` // SECCOMP_FILTER_FLAG_*
	Notify bool   `json:"notify,omitempty"`
}

// maxInsns is what the kernel takes (BPF_MAXINSNS).
const maxInsns = 4096

// Compile translates a profile. Names that no kernel of this architecture has are left out, as every runtime does;
// unknown actions, operators and flags are errors.
func Compile(p *specs.LinuxSeccomp) (*Program, error) {
	out := &Program{}
	for _, f := range p.Flags {
		bit, ok := flagBit(f)
		if !ok {
			return nil, invalid("unknown flag %q", f)
		}
		out.Flags |= bit
	}
	def, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	if def == unix.SECCOMP_RET_USER_NOTIF {
		return nil, invalid("SCMP_ACT_NOTIFY cannot be the default action")
	}
	c := compiler{def: def}
	for _, a := range arches() {
		if wanted(p.Architectures, a.name) {
			if err := c.section(a, p.Syscalls); err != nil {
				return nil, err
			}
		}
	}
	code, err := c.finish()
	if err != nil {
		return nil, err
	}
	out.Code, out.Notify = code, c.notify
	if out.Notify {
		out.Flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	return out, nil
}

func invalid(format string, args ...any) error {
	return errs.New(errs.Invalid, "compile seccomp profile", fmt.Errorf(format, args...))
}

// wanted: the CPU's own architecture is always part of a filter.
func wanted(list []specs.Arch, name specs.Arch) bool {
	for _, a := range list {
		if a == name {
			return true
		}
	}
	return name == arches()[0].name
}

func flagBit(f specs.LinuxSeccompFlag) (uint32, bool) {
	switch f {
	case "SECCOMP_FILTER_FLAG_TSYNC": // our one thread is all there will be after execve
		return 0, true
	case specs.LinuxSeccompFlagLog:
		return unix.SECCOMP_FILTER_FLAG_LOG, true
	case specs.LinuxSeccompFlagSpecAllow:
		return unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, true
	case specs.LinuxSeccompFlagWaitKillableRecv:
		return 1 << 5, true // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19
	}
	return 0, false
}

// action is the filter's return value for an action.
func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	number := uint32(unix.EPERM)
	if errno != nil {
		if *errno > 4095 {
			return 0, invalid("errno %d is too large", *errno)
		}
		number = uint32(*errno)
	}
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | number, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | number, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	}
	return 0, invalid("unknown action %q", a)
}

// Actions and Flags are what this package knows, for the features of a runtime.
func Actions() []string {
	return []string{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"}
}

// Flags are the names of the filter's flags.
func Flags() []string {
	return []string{string(specs.LinuxSeccompFlagLog), string(specs.LinuxSeccompFlagSpecAllow), "SECCOMP_FILTER_FLAG_TSYNC", string(specs.LinuxSeccompFlagWaitKillableRecv)}
}

// Operators are the comparisons of arguments.
func Operators() []string {
	return []string{"SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"}
}

// Arches are the architectures that can run on this CPU.
func Arches() []string {
	var out []string
	for _, a := range arches() {
		out = append(out, string(a.name))
	}
	sort.Strings(out)
	return out
}

// clause is one rule for one call: all arguments must match, then the action is taken. No arguments always match.
type clause struct {
	args   []specs.LinuxSeccompArg
	action uint32
}

// compiler collects the decisions of all architectures.
type compiler struct {
	def      uint32
	notify   bool
	sections []section
}

type section struct {
	arch  arch
	calls map[uint32][]clause
}

func (c *compiler) section(a arch, rules []specs.LinuxSyscall) error {
	s := section{a, map[uint32][]clause{}}
	numbers := a.numbers()
	for _, r := range rules {
		act, err := action(r.Action, r.ErrnoRet)
		if err != nil {
			return err
		}
		c.notify = c.notify || act == unix.SECCOMP_RET_USER_NOTIF
		for _, arg := range r.Args {
			if arg.Index > 5 {
				return invalid("argument %d of %v: a call has six", arg.Index, r.Names)
			}
			if _, err := compare(arg, ""); err != nil {
				return err
			}
		}
		if len(r.Names) == 0 {
			return invalid("a rule without names of calls")
		}
		for _, name := range r.Names {
			if n, ok := numbers[name]; ok && (act != c.def || len(r.Args) > 0) {
				s.calls[n] = append(s.calls[n], clauses(r.Args, act)...)
			} else if ok {
				s.calls[n] = append(s.calls[n], clause{nil, act})
			}
		}
	}
	c.sections = append(c.sections, s)
	return nil
}

// clauses: two conditions on one argument mean either of them, as libseccomp's callers read the specification.
func clauses(args []specs.LinuxSeccompArg, act uint32) []clause {
	seen := [6]bool{}
	for _, a := range args {
		if seen[a.Index] {
			var out []clause
			for _, a := range args {
				out = append(out, clause{[]specs.LinuxSeccompArg{a}, act})
			}
			return out
		}
		seen[a.Index] = true
	}
	return []clause{{args, act}}
}
