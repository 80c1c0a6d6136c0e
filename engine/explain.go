//go:build linux

package engine

import (
	"errors"
	"io/fs"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/monitor"
)

// Steps are what was done to start the container, in order. They are kept while it runs.
func (c *Container) Steps() ([]trace.Record, error) {
	steps, err := monitor.ReadTrace(c.runDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Text(errs.Conflict, "container "+c.ID+" is not running: its steps are kept as long as it runs")
	}
	return steps, errs.Wrap("read steps of container "+c.ShortID(), err)
}
