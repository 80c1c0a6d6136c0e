//go:build linux

package engine

import (
	"io"
	"path/filepath"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/monitor"
)

// LogOptions of [Container.Logs].
type LogOptions = monitor.LogOptions

// Logs writes what the container has said. With Follow it goes on until the container ends, or the writers fail.
func (c *Container) Logs(o LogOptions, stdout, stderr io.Writer) error {
	if c.HostConfig.LogConfig.Type == "none" {
		return errs.Text(errs.Unsupported, "configured logging driver does not support reading")
	}
	running := func() bool {
		status, _, _ := c.now()
		return status != nil
	}
	return monitor.ReadLog(filepath.Join(c.dataDir(), logName), o, running, stdout, stderr)
}
