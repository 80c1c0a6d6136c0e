// Package match holds what filters of lists have in common: Docker's ways to compare what a user wrote with what there is.
package match

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/berth-containers/berth/internal/errs"
)

// Labels wants all of "key" and "key=value".
func Labels(labels map[string]string, want []string) bool {
	for _, w := range want {
		key, value, exact := strings.Cut(w, "=")
		if have, ok := labels[key]; !ok || exact && have != value {
			return false
		}
	}
	return true
}

// Names are regular expressions, of which a name is to match one, with or without a slash before it. One that cannot be
// read matches nothing.
type Names []*regexp.Regexp

// NewNames compiles them; without any every name matches.
func NewNames(patterns []string) Names {
	var out Names
	for _, p := range patterns {
		re, err := regexp.Compile(p)
		if err != nil {
			re = nil
		}
		out = append(out, re)
	}
	return out
}

// Match reports whether one of them matches.
func (n Names) Match(name string) bool {
	for _, re := range n {
		if re != nil && (re.MatchString(name) || re.MatchString("/"+name)) {
			return true
		}
	}
	return len(n) == 0
}

// Ports reads the values of the filters publish and expose: 80, 80/udp, 8000-8080/tcp.
func Ports(key string, values []string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, v := range values {
		if strings.Contains(v, ":") {
			return nil, errs.Text(errs.Invalid, fmt.Sprintf("filter for '%s' should not contain ':': %s", key, v))
		}
		r, err := network.ParsePortRange(v)
		if err != nil {
			return nil, errs.New(errs.Invalid, fmt.Sprintf("error while looking up for %s %s", key, v), err)
		}
		for p := range r.All() {
			out[p.String()] = true
		}
	}
	return out, nil
}
