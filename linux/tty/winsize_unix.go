//go:build unix

package tty

import (
	"os"
	"os/signal"
	"syscall"
)

// sizeChanges says when a window may have another size: the kernel sends SIGWINCH (signal(7)).
func sizeChanges() (changed <-chan os.Signal, end func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	return c, func() { signal.Stop(c) }
}
