//go:build linux

package engine

import (
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/signals"
)

// stopSignal is what asks the container's program to end.
func (c *Container) stopSignal() unix.Signal {
	if sig, err := signals.Parse(c.StopSignal); c.StopSignal != "" && err == nil {
		return sig
	}
	return unix.SIGTERM
}
