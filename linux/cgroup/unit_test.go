//go:build linux

package cgroup

import (
	"fmt"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/linux/systemd"
)

// What is left of rules is what systemd allows.
func TestExceptions(t *testing.T) {
	rule := func(text string) specs.LinuxDeviceCgroup { // +c 1:3 rwm
		f := strings.Fields(text)
		d := specs.LinuxDeviceCgroup{Allow: text[0] == '+', Type: f[0][1:]}
		if len(f) > 1 {
			var major, minor int64
			if n, _ := fmt.Sscanf(f[1], "%d:%d", &major, &minor); n > 0 {
				d.Major = &major
				if n > 1 {
					d.Minor = &minor
				}
			}
			if strings.HasPrefix(f[1], "*:") {
				fmt.Sscanf(f[1], "*:%d", &minor)
				d.Minor = &minor
			}
			d.Access = f[2]
		}
		return d
	}
	for rules, want := range map[string]string{
		"-a":                                    "[] false",
		"+a":                                    "[] true",
		"+a,-a":                                 "[] false",
		"-a,+c 1:3 rwm,+b 8:*  r":               "[[/dev/char/1:3 rwm] [block-8 r]] false",
		"-a,+c 1:3 rwm,-c 1:3 w":                "[[/dev/char/1:3 rm]] false",
		"-a,+c 1:3 r,+c 1:3 w":                  "[[/dev/char/1:3 rw]] false",
		"-a,+c 1:3 r,-c 1:3 rwm":                "[] false",
		"-a,+c - m,+b - m,+u 10:200 rw":         "[[char-* m] [block-* m] [/dev/char/10:200 rw]] false",
		"-a,+c *:5 rwm":                         "[] false",
		"+a,-c 1:3 rwm":                         "[[/dev/char/1:3 rwm]] true",
		"+a,-c 1:3 rwm,+c 1:3 rw,-b 8:0 w":      "[[/dev/char/1:3 m] [/dev/block/8:0 w]] true",
		"-a,+c 1:3 rwm,+c 1:5 rwm,-a,+c 1:7 rw": "[[/dev/char/1:7 rw]] false",
	} {
		var list []specs.LinuxDeviceCgroup
		for _, r := range strings.Split(rules, ",") {
			list = append(list, rule(r))
		}
		got, all := exceptions(list)
		if text := fmt.Sprint(got, all); text != want {
			t.Errorf("%s: %s, want %s", rules, text, want)
		}
	}
}

func TestUnitValues(t *testing.T) {
	for list, want := range map[string]string{"0": "01", "1,8": "0201", "0-9": "ff03", "": "", "a": "", "0-99999999": ""} {
		mask, err := bits(list)
		if got := fmt.Sprintf("%x", mask); got != want || (err != nil) != (want == "") {
			t.Errorf("bits of %q: %s, %v", list, got, err)
		}
	}
	for in, want := range map[[2]string]string{{"50000", "100000"}: "50000", {"33333", "100000"}: "34000", {"1", ""}: "1000", {"max", "5000"}: "max", {"-1", ""}: "-1",
		{"x", ""}: "", {"5", "0"}: "", {"5", "x"}: "", {"", ""}: ""} {
		got, err := addQuota(&systemd.Properties{}, in[0], in[1])
		if got != want && want != "" || (err != nil) != (want == "") {
			t.Errorf("quota %q: %q, %v", in, got, err)
		}
	}
	for in, ok := range map[[2]string]bool{{"MemoryMax", "5"}: true, {"MemoryMax", "max"}: true, {"TasksMax", "0"}: true, {"IOWeight", "default 50"}: true, {"IOWeight", "8:0 50"}: true,
		{"MemoryMax", "x"}: false, {"AllowedCPUs", "x"}: false} {
		if err := addProperty(&systemd.Properties{}, in[0], in[1]); (err == nil) != ok {
			t.Errorf("%q: %v", in, err)
		}
	}
	for file, want := range map[string]string{"memory.max": "MemoryMax", "cpuset.mems": "AllowedMemoryNodes", "max": "", "": "", "memory.swap.high": ""} {
		if got := propertyOf(file); got != want {
			t.Errorf("%q is %q", file, got)
		}
	}
}
