//go:build linux

package engine

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/monitor"
	"github.com/berth-containers/berth/network"
	"github.com/berth-containers/berth/volume"
)

// Engine is an open engine: two folders. Any number of processes may have the same one open.
type Engine struct {
	root, state string
	images      *image.Store
	networks    *network.Store
	volumes     *volume.Store
	soon        *monitor.Starting // for the next start; or nil
}

// Open opens an engine and makes its folders if they are not there.
func Open(o Options) (*Engine, error) {
	e := &Engine{root: orElse(o.Root, "BERTH_ROOT", DefaultRoot), state: orElse(o.State, "BERTH_STATE", DefaultState)}
	var err error
	if e.root, err = filepath.Abs(e.root); err == nil {
		e.state, err = filepath.Abs(e.state)
	}
	if err != nil {
		return nil, errs.Wrap("open engine", err)
	}
	if os.Geteuid() != 0 {
		return nil, errs.New(errs.Permission, "open engine", errors.New("you are not root")).WithHint("use sudo")
	}
	for _, dir := range []string{e.root, filepath.Join(e.root, "containers"), filepath.Join(e.root, "names"), e.runtimeRoot(), filepath.Join(e.state, "containers")} {
		if err := makeFolder(dir); err != nil {
			return nil, err
		}
	}
	e.images = image.Open(e.root)
	e.networks = network.Open(e.root, e.state)
	e.volumes = volume.Open(e.root)
	e.volumes.Tell = e.tellVolume
	return e, nil
}

func orElse(value, variable, fallback string) string {
	if value != "" {
		return value
	}
	if v := os.Getenv(variable); v != "" {
		return v
	}
	return fallback
}

// makeFolder makes a folder of the engine. Others may pass through it, to reach files of containers whose root is an
// ordinary user outside (--userns), and not list it.
func makeFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return errs.Wrap("open engine", err)
	}
	return nil
}

// Root is the folder of what survives a reboot.
func (e *Engine) Root() string { return e.root }

// State is the folder of what describes running processes.
func (e *Engine) State() string { return e.state }

// ImageStore is the store of images.
func (e *Engine) ImageStore() *image.Store { return e.images }

// runtimeRoot is where package container keeps what it knows of running containers.
func (e *Engine) runtimeRoot() string { return filepath.Join(e.state, "runtime") }

// dataDir is a container's folder of what survives a reboot: config.json, rw, logs, exit.json.
func (e *Engine) dataDir(id string) string { return filepath.Join(e.root, "containers", id) }

// runDir is a container's folder while it runs: bundle, status.json, control.sock.
func (e *Engine) runDir(id string) string { return filepath.Join(e.state, "containers", id) }

// netnsPath is where a container's network namespace is mounted.
func (e *Engine) netnsPath(id string) string { return filepath.Join(e.state, "netns", id) }
