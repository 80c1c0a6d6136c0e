//go:build linux

package engine

import (
	"path/filepath"

	"github.com/berth-containers/berth/engine/logging"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/monitor/logs"
)

// LogOptions of [Container.Logs].
type LogOptions = logs.Options

// LogEntry is one line of a log.
type LogEntry = logs.Entry

// Logs hands over what the container has said. With Follow it goes on until the container ends, or take fails.
func (c *Container) Logs(o LogOptions, take func(*LogEntry) error) error {
	cfg, err := c.logConfig()
	if err != nil {
		return err
	}
	running := func() bool {
		status, _, orphan := c.now()
		return status != nil || orphan
	}
	switch {
	case cfg.File != "":
		return logs.Read(cfg.File, o, running, take)
	case cfg.Journald != nil:
		return logs.ReadJournal(c.ID, o, running, take)
	}
	return errs.Text(errs.Unsupported, "configured logging driver does not support reading")
}

// logConfig says what is kept of the output.
func (c *Container) logConfig() (*logs.Config, error) {
	return logging.Config(c.HostConfig.LogConfig, logging.Container{ID: c.ID, Name: c.Name, ImageID: c.ImageID, ImageName: c.Image,
		Args: c.Process.Args, Labels: c.Labels, Env: c.Env}, filepath.Join(c.dataDir(), logName))
}

func (c *Container) checkLog() error {
	_, err := c.logConfig()
	return err
}
