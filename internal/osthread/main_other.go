//go:build !linux

package osthread

// isMain needs no answer where no part of a process can be elsewhere than the rest.
func isMain() bool { return false }
