//go:build linux

package spawn

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/namespace"
)

// IDs are the ids of a user namespace as this process sees them (user_namespaces(7)).
type IDs struct {
	Users, Groups []namespace.IDMap
	SetGroups     bool // its processes may change their supplementary groups
}

// ReadIDs reads the ids of a user namespace. The kernel tells those of a process only, and nobody has to be in it: a process
// is made that enters it, and that is stopped, because it is traced, before it runs anything.
func ReadIDs(userns *os.File) (ids IDs, err error) {
	err = trace.Step("setns+ptrace", "which ids of the host the namespace has is told by a process in it", "path", userns.Name()).Do(func() error {
		self, err := os.Open("/proc/self/exe")
		if err != nil {
			return err
		}
		defer self.Close()
		p := &Program{}
		p.Setns(int(userns.Fd()), unix.CLONE_NEWUSER, "user")
		p.add("ptrace", unix.SYS_PTRACE, unix.PTRACE_TRACEME)
		if err := p.Exec(int(self.Fd()), []string{"berth-userns"}, nil); err != nil {
			return err
		}
		runtime.LockOSThread() // the thread that has made it traces it
		defer runtime.UnlockOSThread()
		pid, pidfd, err := p.Start(nil)
		if err != nil {
			return err
		}
		pidfd.Close()
		defer reap(pid, -1)
		return ids.read(fmt.Sprintf("/proc/%d/", pid))
	})
	return ids, errs.Wrap("read ids of user namespace "+userns.Name(), err)
}

func (i *IDs) read(dir string) (err error) {
	if i.Users, err = readMap(dir + "uid_map"); err != nil {
		return err
	}
	if i.Groups, err = readMap(dir + "gid_map"); err != nil {
		return err
	}
	b, err := os.ReadFile(dir + "setgroups")
	i.SetGroups = strings.TrimSpace(string(b)) == "allow"
	return err
}

func readMap(file string) (out []namespace.IDMap, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var n [3]uint32
	for i, word := range strings.Fields(string(b)) {
		v, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return nil, err
		}
		if n[i%3] = uint32(v); i%3 == 2 {
			out = append(out, namespace.IDMap{Container: n[0], Host: n[1], Size: n[2]})
		}
	}
	return out, nil
}
