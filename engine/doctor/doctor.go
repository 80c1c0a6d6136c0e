//go:build linux

// Package doctor looks at what this kernel and host have for containers, what they lack, and what mends it.
package doctor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine/confine"
	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/linux/lsm"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/linux/seccomp"
)

// Levels of a finding.
const (
	Good    = "ok"
	Warning = "warning" // something that some containers want does not work
	Broken  = "error"   // no container runs
)

// Finding is one thing that was looked at.
type Finding struct {
	What  string // "cgroups"
	Level string // Good, Warning, Broken
	Text  string
	Fix   string `json:",omitempty"` // what the user can do
}

// host is this host, for an engine with its data root in a folder.
type host struct{ root string }

// Examine looks at the kernel and host, for an engine's data root. It changes nothing that lasts.
func Examine(root string) []Finding {
	e := &host{root}
	var out []Finding
	for _, check := range []func() []Finding{checkKernel, checkNamespaces, checkCgroups, e.checkOverlay, checkFilter, checkModules, checkForwarding, e.checkSpace, checkRuntime} {
		out = append(out, check()...)
	}
	return out
}

func finding(what string, ok bool, level, good, bad, fix string) Finding {
	if ok {
		return Finding{What: what, Level: Good, Text: good}
	}
	return Finding{What: what, Level: level, Text: bad, Fix: fix}
}

func checkKernel() []Finding {
	v := KernelVersion()
	var major, minor int
	_, _ = fmt.Sscanf(v, "%d.%d", &major, &minor)
	return []Finding{finding("kernel", major > 5 || major == 5 && minor >= 10, Warning, "Linux "+v, "Linux "+v+" is older than 5.10, the oldest that is tested",
		"install a newer kernel")}
}

func checkNamespaces() []Finding {
	var missing []string
	for _, k := range namespace.Kinds {
		if !k.Supported() {
			missing = append(missing, k.Name)
		}
	}
	level := Warning
	for _, name := range missing {
		if name == "mount" || name == "pid" || name == "network" || name == "ipc" || name == "uts" {
			level = Broken
		}
	}
	return []Finding{finding("namespaces", len(missing) == 0, level, "all kinds are there", "the kernel lacks "+strings.Join(missing, ", ")+" namespaces",
		"use a kernel that was built with CONFIG_NAMESPACES and its parts")}
}

func checkCgroups() []Finding {
	mode, err := cgroup.Detect()
	if err != nil {
		return []Finding{{"cgroups", Broken, err.Error(), "mount -t cgroup2 none /sys/fs/cgroup"}}
	}
	var missing []string
	if mode == cgroup.V2 {
		b, _ := os.ReadFile(cgroup.Mountpoint + "/cgroup.controllers")
		have := strings.Fields(string(b))
		for _, want := range []string{"cpu", "memory", "pids", "io", "cpuset"} {
			if !slices.Contains(have, want) {
				missing = append(missing, want)
			}
		}
	} else {
		for _, want := range []string{"cpu", "memory", "pids", "blkio", "cpuset", "devices", "freezer"} {
			if !exists(filepath.Join(cgroup.Mountpoint, want)) {
				missing = append(missing, want)
			}
		}
	}
	return []Finding{finding("cgroups", len(missing) == 0, Warning, "version "+mode.String()+", all controllers", "version "+mode.String()+" without "+strings.Join(missing, ", ")+
		": such limits do not work", "boot with cgroup_enable=NAME, or mount the controllers")}
}

// checkOverlay makes a union mount in the engine's folder, attached nowhere.
func (e *host) checkOverlay() []Finding {
	dir, err := os.MkdirTemp(e.root, "doctor-")
	if err != nil {
		return []Finding{{"storage", Broken, "the data root " + e.root + " cannot be written: " + err.Error(), "choose another with --root"}}
	}
	defer os.RemoveAll(dir)
	paths := map[string]string{}
	for _, name := range []string{"lower", "upper", "work"} {
		paths[name] = filepath.Join(dir, name)
		_ = os.Mkdir(paths[name], 0o700)
	}
	tree, err := mount.Overlay(mount.OverlayOptions{Lowers: []string{paths["lower"]}, Upper: paths["upper"], Work: paths["work"]})
	if err == nil {
		tree.Close()
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	return []Finding{finding("storage", err == nil, Broken, "union mounts work on "+e.root, text, "load the module overlay, and keep the data root on ext4, xfs, btrfs or tmpfs, not on another overlay")}
}

func checkFilter() []Finding {
	return []Finding{finding("seccomp", seccomp.Supported(), Warning, "system call filters work", "the kernel has no seccomp filters: containers run without", "use a kernel with CONFIG_SECCOMP_FILTER")}
}

// checkModules looks whether a host that confines programs can confine containers.
func checkModules() []Finding {
	if !lsm.AppArmor() {
		return nil
	}
	return []Finding{finding("apparmor", confine.Parser() != "", Warning, "profiles can be loaded", "AppArmor is on and apparmor_parser is missing: containers run without a profile",
		"install the package apparmor")}
}

func checkForwarding() []Finding {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err == nil {
		unix.Close(fd)
	}
	return []Finding{finding("firewall", err == nil, Warning, "nftables can be reached", "the kernel has no nftables: published ports and the way out do not work", "load the module nf_tables")}
}

func (e *host) checkSpace() []Finding {
	var st unix.Statfs_t
	if unix.Statfs(e.root, &st) != nil || st.Blocks == 0 {
		return nil
	}
	free := int64(st.Bavail) * st.Bsize
	return []Finding{finding("disk", free > 1<<30, Warning, fmt.Sprintf("%d GB are free in %s", free>>30, e.root), fmt.Sprintf("only %d MB are free in %s", free>>20, e.root), "berth system prune, or another --root")}
}

// checkRuntime looks for the small program beside this one.
func checkRuntime() []Finding {
	self, err := os.Executable()
	beside := filepath.Join(filepath.Dir(self), "berth-runtime")
	ok := err == nil && exists(beside)
	return []Finding{finding("berth-runtime", ok, Warning, "is beside this program", "is not beside this program, which plays its part: containers start slower and take more memory", "make install, or put it into "+filepath.Dir(self))}
}

// KernelVersion is the running kernel's, as uname(2) has it.
func KernelVersion() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return string(bytes.TrimRight(u.Release[:], "\x00"))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
