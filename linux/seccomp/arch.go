//go:build linux

package seccomp

import (
	"runtime"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// arch is a set of system call numbers that a process on this CPU can use.
type arch struct {
	name  specs.Arch
	audit uint32 // AUDIT_ARCH_*
	table string
	bit   uint32 // added to every number (x32)
}

// x32Bit marks the numbers of x86-64's 32-bit pointer calls (arch/x86/include/uapi/asm/unistd.h).
const x32Bit = 0x40000000

// arches returns those of the running CPU, its own first.
func arches() []arch {
	if runtime.GOARCH == "arm64" {
		return []arch{{specs.ArchAARCH64, unix.AUDIT_ARCH_AARCH64, nativeTable, 0}, {specs.ArchARM, unix.AUDIT_ARCH_ARM, compatTable, 0}}
	}
	return []arch{{specs.ArchX86_64, unix.AUDIT_ARCH_X86_64, nativeTable, 0}, {specs.ArchX86, unix.AUDIT_ARCH_I386, compatTable, 0},
		{specs.ArchX32, unix.AUDIT_ARCH_X86_64, nativeTable, x32Bit}}
}

// numbers parses a table; it takes a few tens of microseconds and is done only when a profile is compiled.
func (a arch) numbers() map[string]uint32 {
	out := make(map[string]uint32, 512)
	for rest := a.table; rest != ""; {
		line, more, _ := strings.Cut(rest, "\n")
		rest = more
		name, number, _ := strings.Cut(line, " ")
		if n, err := strconv.ParseUint(number, 10, 32); err == nil {
			out[name] = uint32(n) | a.bit
		}
	}
	return out
}
