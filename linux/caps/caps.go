//go:build linux

package caps

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// names of the capabilities by number, without CAP_ (include/uapi/linux/capability.h).
var names = [...]string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE",
	"SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
	"WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"}

// Set is a set of capabilities, one bit each.
type Set uint64

// Default are the capabilities of a container that asks for nothing: podman's eleven, Docker's without NET_RAW, MKNOD
// and AUDIT_WRITE, which no ordinary program needs here (ping works by net.ipv4.ping_group_range).
func Default() []string {
	return []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
		"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"}
}

// Number finds a capability by its name, in any case, with CAP_ or without.
func Number(name string) (uint, bool) {
	name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	for i, n := range names {
		if n == name {
			return uint(i), true
		}
	}
	return 0, false
}

// Name is a capability's name, as CAP_CHOWN.
func Name(number uint) string {
	if number < uint(len(names)) {
		return "CAP_" + names[number]
	}
	return "CAP_" + strconv.Itoa(int(number))
}

// All lists every capability that is known here and to the kernel.
func All() []string {
	last := Last()
	var out []string
	for i := range names {
		if uint(i) <= last {
			out = append(out, Name(uint(i)))
		}
	}
	return out
}

// Known lists every capability that is known here, for the features of a runtime.
func Known() []string {
	out := make([]string, len(names))
	for i := range names {
		out[i] = Name(uint(i))
	}
	return out
}

// Parse makes a set of names. Unknown ones are left out and returned beside: an image made for a newer kernel still runs.
func Parse(list []string) (s Set, unknown []string) {
	for _, n := range list {
		if i, ok := Number(n); ok {
			s |= 1 << i
		} else {
			unknown = append(unknown, n)
		}
	}
	return s, unknown
}

func (s Set) String() string {
	var out []string
	for i := uint(0); i < 64; i++ {
		if s&(1<<i) != 0 {
			out = append(out, Name(i))
		}
	}
	return strings.Join(out, ",")
}

// Last is the highest capability that the kernel knows.
func Last() uint {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n >= 0 && n < 64 {
			return uint(n)
		}
	}
	return uint(len(names) - 1)
}

// Held returns the permitted set of the calling thread: nothing else can be given on.
func Held() (Set, error) {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return 0, errs.Wrap("read capabilities", err)
	}
	return Set(data[0].Permitted) | Set(data[1].Permitted)<<32, nil
}

// Sets are the five sets of a thread. Inheritable is empty in a container unless it is asked for: a set there makes
// files with inheritable capabilities more powerful than the container (CVE-2022-24769).
type Sets struct {
	Bounding    Set `json:"bounding,omitempty"`
	Effective   Set `json:"effective,omitempty"`
	Inheritable Set `json:"inheritable,omitempty"`
	Permitted   Set `json:"permitted,omitempty"`
	Ambient     Set `json:"ambient,omitempty"`
}

// DropBounding takes everything out of the calling thread's bounding set that is not in keep: no program executed later
// can get it back, set-user-ID or not. It needs CAP_SETPCAP.
func DropBounding(keep Set) error {
	for i := uint(0); i < 64; i++ {
		if keep&(1<<i) != 0 {
			continue
		}
		switch err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(i), 0, 0, 0); err {
		case nil:
		case unix.EINVAL: // beyond the last capability
			return nil
		default:
			return errs.Wrap("drop "+Name(i)+" from the bounding set", err)
		}
	}
	return nil
}

// Apply gives the calling thread its effective, permitted, inheritable and ambient sets. What the thread does not hold
// cannot be given; it is left out, and returned.
func (s Sets) Apply() (missing Set, err error) {
	held, err := Held()
	if err != nil {
		return 0, err
	}
	missing = (s.Permitted | s.Effective) &^ held
	permitted, effective, inheritable := s.Permitted&held, s.Effective&held&s.Permitted, s.Inheritable&(held|s.Bounding)&^missing
	data := [2]unix.CapUserData{
		{Effective: uint32(effective), Permitted: uint32(permitted), Inheritable: uint32(inheritable)},
		{Effective: uint32(effective >> 32), Permitted: uint32(permitted >> 32), Inheritable: uint32(inheritable >> 32)},
	}
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return missing, errs.Wrap("set capabilities "+permitted.String(), err)
	}
	_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	for i := uint(0); i < 64; i++ {
		if s.Ambient&permitted&inheritable&(1<<i) == 0 {
			continue
		}
		if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(i), 0, 0); err != nil {
			return missing, errs.Wrap("raise ambient "+Name(i), err)
		}
	}
	return missing, nil
}

// Check refuses names that are no capabilities, for lists that a user typed.
func Check(list []string) error {
	for _, n := range list {
		if _, ok := Number(n); !ok && !strings.EqualFold(n, "ALL") {
			return errs.Text(errs.Invalid, fmt.Sprintf("invalid capability: unknown capability: %q", "CAP_"+strings.TrimPrefix(strings.ToUpper(n), "CAP_")))
		}
	}
	return nil
}
