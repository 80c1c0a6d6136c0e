//go:build linux

package namespace

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
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
		if m.Size == 0 || uint64(m.Container)+uint64(m.Size) > 1<<32 || uint64(m.Host)+uint64(m.Size) > 1<<32 {
			return bad(fmt.Sprintf("the range %d:%d:%d is empty or beyond 32 bits", m.Container, m.Host, m.Size))
		}
		for _, o := range maps[:i] {
			if overlap(m.Container, m.Size, o.Container, o.Size) || overlap(m.Host, m.Size, o.Host, o.Size) {
				return bad(fmt.Sprintf("the ranges %d:%d:%d and %d:%d:%d overlap", o.Container, o.Host, o.Size, m.Container, m.Host, m.Size))
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

// SubIDs reads which ids a user may map, from files as /etc/subuid (subuid(5)); user is a name or a number.
func SubIDs(file string, users ...string) ([]IDMap, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, errs.Wrap("read "+file, err)
	}
	defer f.Close()
	return parseSubIDs(f, users)
}

func parseSubIDs(r io.Reader, users []string) ([]IDMap, error) {
	var out []IDMap
	at := uint32(0)
	for sc := bufio.NewScanner(r); sc.Scan(); {
		p := strings.Split(strings.TrimSpace(sc.Text()), ":")
		if len(p) != 3 {
			continue
		}
		first, e1 := strconv.ParseUint(p[1], 10, 32)
		n, e2 := strconv.ParseUint(p[2], 10, 32)
		if e1 != nil || e2 != nil || n == 0 {
			continue
		}
		for _, u := range users {
			if p[0] == u {
				out = append(out, IDMap{at, uint32(first), uint32(n)})
				at += uint32(n)
				break
			}
		}
	}
	return out, nil
}

// UserNamespace makes a user namespace that nobody is in, with these maps, for idmapped mounts (mount_setattr(2)): a
// child is made in it that stops before it runs anything, its namespace is opened, and the child ends.
func UserNamespace(uids, gids []IDMap) (*os.File, error) {
	var ns *os.File
	err := trace.Step("clone user namespace", "the mounted files' owners are translated by its id maps", "uid_map", text(uids), "gid_map", text(gids)).
		Do(func() (err error) {
			ns, err = userNamespace(uids, gids)
			return err
		})
	return ns, errs.Wrap("make user namespace", err)
}

func text(maps []IDMap) string {
	var b strings.Builder
	for i, m := range maps {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d:%d:%d", m.Container, m.Host, m.Size)
	}
	return b.String()
}

func userNamespace(uids, gids []IDMap) (*os.File, error) {
	runtime.LockOSThread() // PTRACE and its wait belong to one thread
	defer runtime.UnlockOSThread()
	c := exec.Command("/proc/self/exe")
	c.Args = []string{"berth-userns"}
	c.Env = []string{}
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: SysProc(uids), GidMappings: SysProc(gids),
		GidMappingsEnableSetgroups: true, Ptrace: true, Pdeathsig: unix.SIGKILL}
	// Traced, the child stops at its execve and never runs an instruction of its own.
	if err := c.Start(); err != nil {
		return nil, err
	}
	ns, err := os.Open("/proc/" + strconv.Itoa(c.Process.Pid) + "/ns/user")
	_ = c.Process.Kill()
	_ = c.Wait()
	return ns, err
}
