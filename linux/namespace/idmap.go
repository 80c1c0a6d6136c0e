//go:build linux

package namespace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// IDMap says that Size ids from Container on, inside, are the ids from Host on, outside (user_namespaces(7)).
type IDMap struct {
	Container uint32 `json:"containerID"`
	Host      uint32 `json:"hostID"`
	Size      uint32 `json:"size"`
}

// String is "container:host:size", as users write it.
func (m IDMap) String() string { return fmt.Sprintf("%d:%d:%d", m.Container, m.Host, m.Size) }

// maxID is the first number that is no id: all ones is the kernel's "no such user".
const maxID = 1<<32 - 1

// ToHost translates an id of the container; false when it is not mapped.
func ToHost(maps []IDMap, id uint32) (uint32, bool) {
	for _, m := range maps {
		if id >= m.Container && id-m.Container < m.Size {
			return m.Host + (id - m.Container), true
		}
	}
	return 0, false
}

// CheckMaps refuses maps that the kernel would refuse with a bare EINVAL: empty, overlapping, beyond 32 bits, or more
// than 340 lines.
func CheckMaps(what string, maps []IDMap) error {
	bad := func(why string) error { return errs.New(errs.Invalid, "map "+what+" ids", fmt.Errorf("%s", why)) }
	if len(maps) == 0 {
		return bad("no map for the user namespace")
	}
	if len(maps) > 340 {
		return bad("more than 340 ranges")
	}
	for i, m := range maps {
		if m.Size == 0 || uint64(m.Container)+uint64(m.Size) > maxID || uint64(m.Host)+uint64(m.Size) > maxID {
			return bad(fmt.Sprintf("the range %s is empty or beyond 32 bits", m))
		}
		for _, o := range maps[:i] {
			if overlap(m.Container, m.Size, o.Container, o.Size) || overlap(m.Host, m.Size, o.Host, o.Size) {
				return bad(fmt.Sprintf("the ranges %s and %s overlap", o, m))
			}
		}
	}
	return nil
}

func overlap(a, an, b, bn uint32) bool {
	return uint64(a) < uint64(b)+uint64(bn) && uint64(b) < uint64(a)+uint64(an)
}

// SysProc turns maps into what the standard library's fork takes.
func SysProc(maps []IDMap) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, len(maps))
	for i, m := range maps {
		out[i] = syscall.SysProcIDMap{ContainerID: int(m.Container), HostID: int(m.Host), Size: int(m.Size)}
	}
	return out
}

// SubIDs reads which ids a user may map into user namespaces besides their own (subuid(5), subgid(5)). The files know
// users by name or by number, so both are given. The maps begin at 0 inside and follow each other; there are none when
// nothing was given to the user.
func SubIDs(users ...string) (uids, gids []IDMap, err error) {
	if uids, err = readSubIDs("/etc/subuid", users); err == nil {
		gids, err = readSubIDs("/etc/subgid", users)
	}
	return uids, gids, err
}

func readSubIDs(file string, users []string) ([]IDMap, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap("read "+file, err)
	}
	defer f.Close()
	maps, err := parseSubIDs(f, users)
	return maps, errs.Wrap("read "+file, err)
}

// parseSubIDs reads lines "user:first:count". Lines that are none are passed over, as the tools that write them do.
func parseSubIDs(r io.Reader, users []string) ([]IDMap, error) {
	var out []IDMap
	at := uint64(0)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		p := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(p) != 3 || !slices.Contains(users, p[0]) {
			continue
		}
		first, e1 := strconv.ParseUint(p[1], 10, 32)
		n, e2 := strconv.ParseUint(p[2], 10, 32)
		if e1 != nil || e2 != nil || n == 0 || first+n > maxID || at+n > maxID {
			continue
		}
		out = append(out, IDMap{uint32(at), uint32(first), uint32(n)})
		at += n
	}
	return out, lines.Err()
}

// FreeRange finds the lowest size ids in a row, outside, that lie in the pool and in none of the used ranges; false when
// there are none. What the ranges are inside does not matter. Whoever takes them holds a lock until others can see it.
func FreeRange(pool, used []IDMap, size uint32) (first uint32, ok bool) {
	// The lowest free place begins where a range of the pool does, or where one that is used ends.
	starts := make([]uint64, 0, len(pool)+len(used))
	for _, p := range pool {
		starts = append(starts, uint64(p.Host))
	}
	for _, u := range used {
		starts = append(starts, uint64(u.Host)+uint64(u.Size))
	}
	slices.Sort(starts)
	for _, s := range starts {
		if s+uint64(size) <= maxID && size > 0 && inPool(pool, s, uint64(size)) && !taken(used, s, uint64(size)) {
			return uint32(s), true
		}
	}
	return 0, false
}

// inPool reports whether n ids from first on are all in the pool, whose ranges may follow each other or overlap.
func inPool(pool []IDMap, first, n uint64) bool {
	for end := first + n; first < end; {
		reached := first
		for _, p := range pool {
			if uint64(p.Host) <= first {
				reached = max(reached, uint64(p.Host)+uint64(p.Size))
			}
		}
		if reached == first {
			return false
		}
		first = reached
	}
	return true
}

func taken(used []IDMap, first, n uint64) bool {
	return slices.ContainsFunc(used, func(u IDMap) bool {
		return first < uint64(u.Host)+uint64(u.Size) && uint64(u.Host) < first+n
	})
}

// UserNamespace makes a user namespace that nobody is in, with these maps, for idmapped mounts (mount_setattr(2)). No
// program with threads can make one for itself, so a child is made in it that stops before it runs anything; its
// namespace is opened, and the child ends. That takes half a millisecond.
func UserNamespace(uids, gids []IDMap) (*os.File, error) {
	if err := errors.Join(CheckMaps("user", uids), CheckMaps("group", gids)); err != nil {
		return nil, err
	}
	var ns *os.File
	err := trace.Step("clone user namespace", "the mounted files' owners are translated by its id maps",
		"uid_map", text(uids), "gid_map", text(gids)).Do(func() (err error) {
		ns, err = userNamespace(uids, gids)
		return err
	})
	return ns, errs.Wrap("make user namespace", err)
}

func text(maps []IDMap) []string {
	out := make([]string, len(maps))
	for i, m := range maps {
		out[i] = m.String()
	}
	return out
}

func userNamespace(uids, gids []IDMap) (*os.File, error) {
	runtime.LockOSThread() // PTRACE and its wait belong to one thread
	defer runtime.UnlockOSThread()
	// Traced, the child stops at its execve and never runs an instruction of its own.
	child, err := os.StartProcess("/proc/self/exe", []string{"berth-userns"}, &os.ProcAttr{Env: []string{}, Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: SysProc(uids), GidMappings: SysProc(gids),
		GidMappingsEnableSetgroups: true, Ptrace: true, Pdeathsig: unix.SIGKILL,
	}})
	if errors.Is(err, unix.EPERM) {
		return nil, errs.New(errs.Permission, "", err).WithHint("a program that is traced with all its children (strace -f) cannot do this")
	} else if err != nil {
		return nil, err
	}
	user, _ := ByName("user")
	ns, err := Open(child.Pid, user)
	_ = child.Kill()
	_, _ = child.Wait()
	return ns, err
}
