//go:build linux

package monitor

import (
	"os"
	"slices"

	"github.com/berth-containers/berth/linux/socket"
)

// hold keeps further files open until the monitor's end, and closes sockets that are bound to what is released.
func (m *monitor) hold(files []*os.File, released []socket.Bound) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = slices.DeleteFunc(append(m.held, files...), func(f *os.File) bool {
		if len(released) == 0 || !slices.Contains(released, socket.BoundTo(number(f))) {
			return false
		}
		f.Close()
		return true
	})
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Hold gives a running container's monitor files that it keeps open, and tells it which of those it has to close.
func (c *Conn) Hold(files []*os.File, release []socket.Bound) error {
	if err := c.sendFiles(files); err != nil {
		return lost(err)
	}
	_, err := c.Ask(Request{Op: "hold", Release: release})
	return err
}
