//go:build linux

package monitor

import (
	"testing"

	"golang.org/x/sys/unix"
)

// connected makes both ends of a connection.
func connected(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = newConn(fds[0]); err == nil {
		b, err = newConn(fds[1])
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}
