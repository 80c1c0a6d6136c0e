//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// freezerFile is where a group is frozen: freezer.state with FROZEN and THAWED (version 1), cgroup.freeze with 1 and 0
// (version 2, Linux 5.2).
func (g *Group) freezerFile() (s setting, frozen, thawed string) {
	if g.V2() {
		return setting{controller: "freezer", file: "cgroup.freeze"}, "1", "0"
	}
	return setting{controller: "freezer", file: "freezer.state"}, "FROZEN", "THAWED"
}

// Freeze stops every process in the group and returns when they stand still.
func (g *Group) Freeze() error {
	s, frozen, thawed := g.freezerFile()
	s.value = frozen
	deadline := time.Now().Add(10 * time.Second)
	for pause := 200 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		// With version 1 a process that forks meanwhile can keep the group FREEZING: it has to be written again.
		if err := g.write(s, "its processes stand still and notice nothing"); err != nil {
			return err
		}
		if ok, err := g.Frozen(); ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			s.value = thawed
			_ = g.write(s, "freezing failed")
			return errs.New(errs.Internal, "freeze control group "+g.Path(), fmt.Errorf("its processes do not stop"))
		}
		time.Sleep(pause)
	}
}

// Thaw lets the processes go on. A group that is gone is no error.
func (g *Group) Thaw() error {
	s, _, thawed := g.freezerFile()
	s.value = thawed
	err := g.write(s, "its processes go on")
	if err != nil && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)) && !g.Exists() {
		return nil
	}
	return err
}

// Frozen reports whether the group stands still.
func (g *Group) Frozen() (bool, error) {
	dir := g.dirOf("freezer")
	if dir == "" {
		return false, nil
	}
	file, want := dir+"/freezer.state", "FROZEN"
	if g.V2() {
		file, want = dir+"/cgroup.events", "frozen 1"
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || isErrno(err, unix.ENODEV) {
		return false, nil
	}
	return strings.Contains(string(b), want), errs.Wrap("read freezer", err)
}

// Frosty reports whether the group is frozen or about to be: a process that is born into it would not run. It is asked
// before an exec, whose vfork child would never return.
func (g *Group) Frosty() bool {
	dir := g.dirOf("freezer")
	if dir == "" {
		return false
	}
	file, thawed := dir+"/freezer.state", "THAWED"
	if g.V2() {
		file, thawed = dir+"/cgroup.freeze", "0"
	}
	b, err := os.ReadFile(file)
	return err == nil && strings.TrimSpace(string(b)) != thawed
}
