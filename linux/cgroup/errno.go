//go:build linux

package cgroup

import (
	"errors"
	"sort"

	"golang.org/x/sys/unix"
)

func isErrno(err error, n unix.Errno) bool { return errors.Is(err, n) }

// unwrapErrno leaves the number of an error, whose path is said already.
func unwrapErrno(err error) error {
	var n unix.Errno
	if errors.As(err, &n) {
		return n
	}
	return err
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
