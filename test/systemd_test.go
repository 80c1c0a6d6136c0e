//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/linux/cgroup"
)

// systemdProgram is Debian's.
const systemdProgram = "/lib/systemd/systemd"

// prepareSystemd mounts a /run and the control groups below its own, and becomes systemd, which runs one service and ends
// with its exit status.
const prepareSystemd = `set -e
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
groups=$(grep -E '^[^ ]+ /sys/fs/cgroup[^ ]* cgroup2? ' /proc/mounts)
# systemd makes the folder of version 1's hierarchies read-only: a folder of its own, not the host's.
[ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t tmpfs tmpfs /sys/fs/cgroup
echo "$groups" | while read -r _ at type options _; do
	options=$(echo "$options" | tr , '\n' | grep -vE '^(rw|ro|nosuid|nodev|noexec|relatime|noatime|xattr|nsdelegate|memory_.*|release_agent=.*)$' | sed 's/^name=/none,name=/' | paste -sd,)
	[ "$at" = /sys/fs/cgroup ] && umount "$at" || mkdir -p "$at"
	mount -t "$type" ${options:+-o "$options"} "$type" "$at"
done
mkdir -p /run/systemd/system
cp "$1" /run/systemd/system/berth-test.service
exec env -i container=berth-test PATH="$PATH" ` + systemdProgram + ` --unit=berth-test.service --log-level=err --log-target=console`

// underSystemd runs a shell script of the session's files as a service of a systemd that is process 1 of namespaces of its
// own, in a control group of its own: systemd SCRIPT [ARG...].
func underSystemd(ts *testscript.TestScript, neg bool, args []string) {
	group, err := cgroup.New(fmt.Sprintf("berth-test-systemd-%d", os.Getpid()))
	ts.Check(err)
	ts.Check(group.Create())
	defer func() {
		ts.Check(group.Kill())
		ts.Check(group.Delete())
	}()
	unit, out := ts.MkAbs("berth-test.service"), ts.MkAbs("service-output")
	text := fmt.Sprintf("[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nStandardOutput=file:%s\nStandardError=inherit\nWorkingDirectory=%s\n", out, ts.MkAbs("."))
	stride := 4
	if testing.Short() {
		stride = 10
	}
	text += fmt.Sprintf("Environment=STRIDE=%d\n", stride)
	for _, name := range []string{"PATH", "RUNTIME", "WORK", "BERTH_ROOT", "BERTH_STATE", "HOME"} {
		text += fmt.Sprintf("Environment=%s=%s\n", name, ts.Getenv(name))
	}
	text += fmt.Sprintf("ExecStart=/bin/sh -eux %s\nExecStopPost=/bin/sh -c 'systemctl exit $$EXIT_STATUS'\n", strings.Join(args, " "))
	ts.Check(os.WriteFile(unit, []byte(text), 0o644))
	cmd := exec.Command("/bin/sh", "-c", prepareSystemd, "sh", unit)
	said := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Unshareflags: unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS}
	dir, err := group.Dir()
	ts.Check(err)
	if dir != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	ts.Check(group.Fork(cmd.Start))
	err = cmd.Wait()
	b, _ := os.ReadFile(out)
	if (err != nil) != neg {
		ts.Fatalf("%s%s%s ends with %v", said, b[max(0, len(b)-4000):], args[0], err)
	}
}
