//go:build linux

package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/user"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine/change"
	"github.com/berth-containers/berth/engine/limits"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
)

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// addProcess describes the container's first process.
func (c *Container) addProcess(s *specs.Spec) error {
	u, home, err := c.findUser(c.Process.User, c.HostConfig.GroupAdd)
	if err != nil {
		return err
	}
	p := &specs.Process{
		Terminal: c.Tty, User: u, Args: c.Process.Args, Cwd: c.Process.Cwd,
		Env: c.environment(home, c.Tty, c.Process.Env),
	}
	if c.HostConfig.Umask != nil {
		p.User.Umask = c.HostConfig.Umask
	}
	if size := c.HostConfig.ConsoleSize; size[0] > 0 {
		p.ConsoleSize = &specs.Box{Height: size[0], Width: size[1]}
	}
	if adj := c.HostConfig.OomScoreAdj; adj != 0 {
		p.OOMScoreAdj = &adj
	}
	p.Rlimits = c.rlimits()
	s.Process = p
	return nil
}

// environment is what a process finds: Docker's defaults, then what the image and the user say.
func (c *Container) environment(home string, terminal bool, own []string) []string {
	base := []string{defaultPath, "HOSTNAME=" + c.Hostname}
	if terminal {
		base = append(base, "TERM=xterm")
	}
	out := change.MergeEnv(append(base, c.linkEnv()...), own)
	for _, e := range out {
		if strings.HasPrefix(e, "HOME=") {
			return out
		}
	}
	return append(out, "HOME="+home)
}

// rlimits are the user's, and a limit of open files that does not depend on who started the container: the soft one of
// most systems, which programs with select(2) need, and a hard one that servers can raise it to.
func (c *Container) rlimits() []specs.POSIXRlimit {
	out := limits.Ulimits(c.HostConfig.Ulimits)
	if !slices.ContainsFunc(out, func(l specs.POSIXRlimit) bool { return l.Type == "RLIMIT_NOFILE" }) {
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 524288})
	}
	return out
}

// findUser looks a user up in the image's files, as they are for the container: name or number, with a group or
// without, and further groups.
func (c *Container) findUser(spec string, groups []string) (specs.User, string, error) {
	passwd, err := c.readFile("/etc/passwd")
	if err != nil {
		return specs.User{}, "", err
	}
	group, err := c.readFile("/etc/group")
	if err != nil {
		return specs.User{}, "", err
	}
	found, err := user.GetExecUser(spec, &user.ExecUser{Home: "/"}, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return specs.User{}, "", errs.New(errs.Invalid, "find user "+spec, err).WithHint("a user's name must stand in the image's /etc/passwd; a number works always")
	}
	out := specs.User{UID: uint32(found.Uid), GID: uint32(found.Gid), AdditionalGids: []uint32{}}
	add := func(gid int) {
		for _, have := range out.AdditionalGids {
			if have == uint32(gid) {
				return
			}
		}
		out.AdditionalGids = append(out.AdditionalGids, uint32(gid))
	}
	// The main group is among them, or a file that denies it to its group would be open (CVE-2022-2989).
	add(found.Gid)
	for _, gid := range found.Sgids {
		add(gid)
	}
	if len(groups) > 0 {
		more, err := user.GetAdditionalGroups(groups, bytes.NewReader(group))
		if err != nil {
			return specs.User{}, "", errs.New(errs.Invalid, "find groups", fmt.Errorf("Unable to find group %s: %w", strings.Join(groups, ", "), err))
		}
		for _, gid := range more {
			add(gid)
		}
	}
	return out, found.Home, nil
}

// largestFile is how much of a file of the image is read; users do not have more.
const largestFile = 4 << 20

// readFile reads a file of the container's root as it is now: in the write layer, or the topmost layer that has it. No
// file is no content.
func (c *Container) readFile(name string) ([]byte, error) {
	for _, tree := range append([]string{filepath.Join(c.dataDir(), "rw/fs")}, c.Lowers...) {
		b, found, err := readBelow(tree, name)
		if err != nil {
			return nil, errs.Wrap("read "+name+" of the image", err)
		}
		if found {
			return b, nil
		}
	}
	return nil, nil
}

// readBelow reads a regular file in one layer. found is also true of a whiteout, which says that it was removed.
func readBelow(tree, name string) (content []byte, found bool, err error) {
	root, err := mount.OpenRoot(tree)
	if err != nil {
		return nil, false, err
	}
	defer root.Close()
	f, err := root.Open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, false, nil
	}
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) { // the device 0:0
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return nil, true, err
	}
	content, err = io.ReadAll(io.LimitReader(f, largestFile))
	return content, true, err
}
