//go:build linux

package cgroup

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/linux/systemd"
)

// deviceProperties says rules as DevicePolicy= and DeviceAllow= (systemd.resource-control(5)), so that systemd, which
// writes its own rules whenever it is reloaded, does not close what ours allow (version 2: a second filter beside ours) or
// open what they deny (version 1: in the same files).
func deviceProperties(ps *systemd.Properties, rules []specs.LinuxDeviceCgroup, v2 bool) {
	if len(rules) == 0 {
		return
	}
	list, all := exceptions(rules)
	policy := "strict"
	if all {
		// systemd knows a list of what is allowed and nothing else. With version 2 ours alone denies the rest; with
		// version 1 "allow all" would take its place, so systemd denies all until ours is written.
		if v2 || len(list) == 0 {
			policy = "auto"
		}
		list = nil
	}
	ps.Text("DevicePolicy", policy)
	ps.Pairs("DeviceAllow", nil) // an empty list forgets what was there
	if len(list) > 0 {
		ps.Pairs("DeviceAllow", list)
	}
}

// exceptions goes through rules in their order and returns the devices that are allowed in the end, each with its access;
// with all, those that are denied, because all others are allowed.
func exceptions(rules []specs.LinuxDeviceCgroup) (list [][2]string, all bool) {
	for _, r := range rules {
		text := deviceText(r) // c 1:3 rwm
		kind := text[0]
		if text == "a" || kind == 'a' && !r.Allow { // what came before is void (cgroup-v1/devices.rst)
			list, all = nil, r.Allow
			continue
		}
		numbers, access, _ := strings.Cut(text[2:], " ")
		if kind != 'b' {
			list = except(list, "char", numbers, access, r.Allow != all)
		}
		if kind != 'c' {
			list = except(list, "block", numbers, access, r.Allow != all)
		}
	}
	return list, all
}

// except adds accesses of devices to the list, or takes them from it. It names them in the words of DeviceAllow=, which has
// none for one minor number of every major one.
func except(list [][2]string, kind, numbers, access string, add bool) [][2]string {
	path := "/dev/" + kind + "/" + numbers
	if major, all := strings.CutSuffix(numbers, ":*"); all {
		path = kind + "-" + major
	} else if numbers[0] == '*' {
		return list
	}
	now := ""
	var out [][2]string
	for _, e := range list {
		if e[0] == path {
			now = e[1]
		} else {
			out = append(out, e)
		}
	}
	for _, c := range []string{"r", "w", "m"} {
		if strings.Contains(access, c) {
			now = strings.ReplaceAll(now, c, "")
			if add {
				now += c
			}
		}
	}
	if now != "" {
		out = append(out, [2]string{path, now})
	}
	return out
}
