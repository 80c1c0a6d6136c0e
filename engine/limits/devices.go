//go:build linux

package limits

import (
	"fmt"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
)

// DeviceRules reads a list of them.
func DeviceRules(rules []string) (out []specs.LinuxDeviceCgroup, err error) {
	for _, rule := range rules {
		d, err := ParseDeviceRule(rule)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

// ParseDeviceRule reads a rule as version 1 writes it: "c 42:* rmw".
func ParseDeviceRule(rule string) (d specs.LinuxDeviceCgroup, err error) {
	bad := errs.Text(errs.Invalid, fmt.Sprintf("invalid device cgroup rule format: '%s'", rule))
	fields := strings.Fields(rule)
	if len(fields) != 3 || len(fields[0]) != 1 || !strings.Contains("abc", fields[0]) || strings.Trim(fields[2], "rwm") != "" {
		return d, bad
	}
	d = specs.LinuxDeviceCgroup{Allow: true, Type: fields[0], Access: fields[2]}
	major, minor, ok := strings.Cut(fields[1], ":")
	if !ok {
		return d, bad
	}
	for _, n := range []struct {
		text string
		to   **int64
	}{{major, &d.Major}, {minor, &d.Minor}} {
		if n.text == "*" {
			continue
		}
		v, err := strconv.ParseInt(n.text, 10, 64)
		if err != nil || v < 0 {
			return d, bad
		}
		*n.to = &v
	}
	return d, nil
}
