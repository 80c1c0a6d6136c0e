//go:build linux

// Package signals reads signals as people write them.
package signals

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Parse reads a signal as users write it: KILL, SIGKILL, sigkill, 9, RTMIN+3.
func Parse(s string) (unix.Signal, error) {
	name := strings.ToUpper(s)
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > 64 {
			return 0, errs.Text(errs.Invalid, "invalid signal: "+s)
		}
		return unix.Signal(n), nil
	}
	name = strings.TrimPrefix(name, "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	for _, base := range []struct {
		name string
		n    int
	}{{"RTMIN", 34}, {"RTMAX", 64}} { // as the C libraries number them: two are their own
		rest, ok := strings.CutPrefix(name, base.name)
		if !ok {
			continue
		}
		offset := 0
		if rest != "" {
			var err error
			if offset, err = strconv.Atoi(rest); err != nil {
				break
			}
		}
		if n := base.n + offset; n >= 34 && n <= 64 {
			return unix.Signal(n), nil
		}
	}
	return 0, errs.Text(errs.Invalid, "invalid signal: "+s)
}
