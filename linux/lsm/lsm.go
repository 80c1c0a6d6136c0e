//go:build linux

package lsm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Unconfined is the name by which AppArmor knows that a program has no profile.
const Unconfined = "unconfined"

// Procfs is a /proc that was checked; package mount has it.
type Procfs interface {
	Open(name string, flags int) (*os.File, error)
}

// AppArmor reports whether this kernel confines programs by AppArmor's profiles.
func AppArmor() bool {
	b, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return bytes.HasPrefix(b, []byte("Y"))
}

// selinuxfs is where SELinux is spoken to (selinux(8)).
const selinuxfs = "/sys/fs/selinux"

// SELinux reports whether this kernel has SELinux with a policy. Without one every process is "kernel", and no label
// means anything. A container sees its selinuxfs read-only, if at all, and can label nothing.
func SELinux() bool {
	var fs unix.Statfs_t
	if unix.Statfs(selinuxfs, &fs) != nil || fs.Type != unix.SELINUX_MAGIC || fs.Flags&unix.ST_RDONLY != 0 {
		return false
	}
	label, err := os.ReadFile("/proc/thread-self/attr/current")
	return err == nil && strings.TrimRight(string(label), "\x00\n") != "kernel"
}

// CheckProfile refuses a profile that cannot be applied here: with an error of kind Unsupported on a host without
// AppArmor, where only "" and [Unconfined] can be promised.
func CheckProfile(profile string) error {
	switch {
	case profile == "":
		return nil
	case strings.ContainsAny(profile, "\x00\n"):
		return errs.New(errs.Invalid, "use AppArmor profile", fmt.Errorf("%q has a character that no name has", profile))
	case profile != Unconfined && !AppArmor():
		return errs.New(errs.Unsupported, "use AppArmor profile "+profile, errors.New("this host has no AppArmor, so nothing would confine the program")).
			WithHint("boot Linux with the parameters apparmor=1 security=apparmor, or name no profile")
	}
	return nil
}

// CheckLabel refuses a context that SELinux's policy does not know; on a host without SELinux, with an error of kind
// Unsupported, any.
func CheckLabel(label string) error {
	if label == "" {
		return nil
	}
	op := "use SELinux label " + label
	if !SELinux() {
		return errs.New(errs.Unsupported, op, errors.New("this host has no SELinux, so nothing would confine the program")).
			WithHint("boot Linux with the parameters selinux=1 security=selinux and a policy, or give no label")
	}
	f, err := os.OpenFile(selinuxfs+"/context", os.O_RDWR, 0)
	if err != nil {
		return errs.Wrap(op, err)
	}
	defer f.Close()
	if _, err = f.WriteString(label); errors.Is(err, unix.EINVAL) {
		return errs.New(errs.Invalid, op, errors.New("the policy of this host has no such context"))
	}
	return errs.Wrap(op, err)
}

// ProfileOnExec gives what the calling thread executes next a profile of AppArmor (aa_change_onexec(2)). One that is not
// loaded is an error of kind NotFound.
func ProfileOnExec(proc Procfs, profile string) error {
	if profile == "" || profile == Unconfined && !AppArmor() {
		return nil
	}
	name := "thread-self/attr/apparmor/exec"
	err := trace.Step("write", "AppArmor allows the program only what its profile says", "file", "attr/apparmor/exec", "value", "exec "+profile).Do(func() error {
		f, err := proc.Open(name, unix.O_WRONLY)
		if errors.Is(err, unix.ENOENT) { // before Linux 5.8 the module that is the first has the files to itself
			f, err = proc.Open("thread-self/attr/exec", unix.O_WRONLY)
		}
		if err != nil {
			return err
		}
		return write(f, "exec "+profile)
	})
	op := "apply AppArmor profile " + profile
	if err == unix.ENOENT {
		return errs.New(errs.NotFound, op, errors.New("no such profile is loaded")).WithHint("load it with apparmor_parser -r FILE; aa-status lists those that are")
	}
	return errs.Wrap(op, err)
}

// LabelOnExec gives what the calling thread executes next a context of SELinux (setexeccon(3)).
func LabelOnExec(proc Procfs, label string) error {
	if label == "" {
		return nil
	}
	err := trace.Step("write", "SELinux allows the program only what its context may", "file", "attr/exec", "value", label).
		Do(func() error { return attribute(proc, "exec", label) })
	return errs.Wrap("apply SELinux label "+label, err)
}

// LabelKeys gives keys that the calling thread makes a context of SELinux (setkeycreatecon(3)); "" is the policy's choice.
func LabelKeys(proc Procfs, label string) error {
	err := attribute(proc, "keycreate", label)
	return errs.Wrap("apply SELinux label "+label+" to keys", err)
}

func attribute(proc Procfs, name, label string) error {
	f, err := proc.Open("thread-self/attr/"+name, unix.O_WRONLY)
	if err != nil {
		return err
	}
	return write(f, label)
}

// write writes in one call, of nothing, too, and returns the bare error number.
func write(f *os.File, text string) error {
	_, err := unix.Write(int(f.Fd()), []byte(text))
	f.Close()
	return err
}

// LabelFile gives a file a context of SELinux (setfilecon(3)); path may be that of a handle.
func LabelFile(path, label string) error {
	return unix.Setxattr(path, "security.selinux", []byte(label), 0)
}
