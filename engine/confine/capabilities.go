//go:build linux

package confine

import (
	"slices"
	"strings"

	"github.com/berth-containers/berth/linux/caps"
)

// Capabilities are the default ones, with and without what the user says (--cap-add, --cap-drop; CAP_ and case do not
// matter); a container with all of the host's rights has all.
func Capabilities(add, drop []string, privileged bool) []string {
	if privileged {
		return caps.All()
	}
	name := func(s string) string { return "CAP_" + strings.TrimPrefix(strings.ToUpper(s), "CAP_") }
	has := func(list []string, what string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return name(s) == what })
	}
	set := caps.Default()
	if has(drop, "CAP_ALL") {
		set = nil
	}
	if has(add, "CAP_ALL") {
		set = caps.All()
	}
	var out []string
	for _, have := range set {
		if !has(drop, have) {
			out = append(out, have)
		}
	}
	for _, a := range add {
		if n := name(a); n != "CAP_ALL" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
