//go:build linux

package anatomy

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/caps"
)

// Process is one of the container's. Its children follow it, one level deeper.
type Process struct {
	Pid, Inside int // on the host; in the container's pid namespace
	Parent      int `json:"-"`
	Depth       int // 0: process 1, or one that came by exec
	UID         int // in the container
	Threads     int
	Memory      uint64 // resident, bytes
	State       string // as in /proc/PID/status: "S (sleeping)"
	Command     string
}

// processes puts them into the order of a tree. Those that have come by `exec` have a parent outside.
func processes(first int, pids []int) []Process {
	var all []Process
	for _, pid := range pids {
		if p, err := readProcess(pid); err == nil { // it may have just ended
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Process) int { return a.Pid - b.Pid })
	var out []Process
	var add func(p Process, depth int)
	add = func(p Process, depth int) {
		p.Depth = depth
		out = append(out, p)
		for _, child := range all {
			if child.Parent == p.Pid {
				add(child, depth+1)
			}
		}
	}
	has := func(pid int) bool { return slices.ContainsFunc(all, func(p Process) bool { return p.Pid == pid }) }
	for _, p := range all {
		if p.Pid == first || !has(p.Parent) {
			add(p, 0)
		}
	}
	return out
}

// status reads /proc/PID/status (proc(5)).
func status(pid int) (map[string]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		if key, value, ok := strings.Cut(line, ":"); ok {
			out[key] = strings.TrimSpace(value)
		}
	}
	return out, nil
}

func readProcess(pid int) (p Process, err error) {
	s, err := status(pid)
	if err != nil {
		return p, err
	}
	p = Process{Pid: pid, State: s["State"]}
	p.Parent, _ = strconv.Atoi(s["PPid"])
	p.Threads, _ = strconv.Atoi(s["Threads"])
	if inside := strings.Fields(s["NSpid"]); len(inside) > 0 {
		p.Inside, _ = strconv.Atoi(inside[len(inside)-1])
	}
	if ids := strings.Fields(s["Uid"]); len(ids) > 0 {
		p.UID, _ = strconv.Atoi(ids[0])
	}
	if kb := strings.Fields(s["VmRSS"]); len(kb) > 0 {
		n, _ := strconv.ParseUint(kb[0], 10, 64)
		p.Memory = n * 1024
	}
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	p.Command = strings.Join(strings.FieldsFunc(string(b), func(r rune) bool { return r == 0 }), " ")
	if p.Command == "" {
		p.Command = "[" + s["Name"] + "]"
	}
	return p, nil
}

// Security is what process 1 may do.
type Security struct {
	UID, GID     string // real, effective, saved, file system
	Groups       string
	Capabilities struct{ Effective, Bounding, Inheritable, Ambient []string }
	NoNewPrivs   bool
	Seccomp      string // off, strict, filters: N
	LSM          string `json:",omitempty"` // AppArmor's or SELinux's label
	IDMap        string // of its user namespace: inside, outside, how many
}

func security(pid int) (Security, error) {
	s, err := status(pid)
	if err != nil {
		return Security{}, errs.Wrap("look at process 1", err)
	}
	out := Security{UID: strings.Join(strings.Fields(s["Uid"]), " "), GID: strings.Join(strings.Fields(s["Gid"]), " "), Groups: s["Groups"], NoNewPrivs: s["NoNewPrivs"] == "1"}
	for _, c := range []struct {
		key string
		to  *[]string
	}{{"CapEff", &out.Capabilities.Effective}, {"CapBnd", &out.Capabilities.Bounding}, {"CapInh", &out.Capabilities.Inheritable}, {"CapAmb", &out.Capabilities.Ambient}} {
		mask, _ := strconv.ParseUint(s[c.key], 16, 64)
		if mask != 0 {
			*c.to = strings.Split(caps.Set(mask).String(), ",")
		}
	}
	switch s["Seccomp"] {
	case "0":
		out.Seccomp = "off"
	case "1":
		out.Seccomp = "strict"
	case "2":
		out.Seccomp = "filters: " + s["Seccomp_filters"]
	}
	dir := "/proc/" + strconv.Itoa(pid)
	if b, err := os.ReadFile(dir + "/attr/current"); err == nil {
		out.LSM = strings.Trim(string(b), "\x00\n")
	}
	if b, err := os.ReadFile(dir + "/uid_map"); err == nil {
		var maps []string
		for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			if f := strings.Fields(line); len(f) == 3 {
				maps = append(maps, fmt.Sprintf("%s → %s (%s)", f[0], f[1], f[2]))
			}
		}
		out.IDMap = strings.Join(maps, ", ")
	}
	return out, nil
}
