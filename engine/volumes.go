//go:build linux

package engine

import (
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/engine/files"
	"github.com/berth-containers/berth/engine/match"
	"github.com/berth-containers/berth/engine/trash"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/volume"
)

// CreateVolume makes a volume, or finds the one of that name.
func (e *Engine) CreateVolume(name, driver string, labels, options map[string]string) (*volume.Volume, error) {
	if err := checkDriver(driver); err != nil {
		return nil, err
	}
	return e.volumes.Create(name, labels, options)
}

// checkDriver refuses drivers of volumes other than the one there is.
func checkDriver(driver string) error {
	if driver == "" || driver == "local" {
		return nil
	}
	return errs.Text(errs.NotFound, `error looking up volume plugin `+driver+`: plugin "`+driver+`" not found`)
}

// Volumes lists volumes.
func (e *Engine) Volumes(f Filters) ([]*volume.Volume, error) {
	if err := checkFilters(f, "dangling", "driver", "label", "name"); err != nil {
		return nil, err
	}
	for _, s := range f["dangling"] {
		if _, err := strconv.ParseBool(s); err != nil {
			return nil, errs.Text(errs.Invalid, "invalid filter 'dangling=["+s+"]'")
		}
	}
	all, err := e.volumes.List()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(v *volume.Volume) bool {
		return !f.any("name", func(s string) bool { return strings.Contains(v.Name, s) }) || !f.any("driver", func(s string) bool { return v.Driver == s }) ||
			!match.Labels(v.Labels, f["label"]) || !f.any("dangling", func(s string) bool {
			yes, _ := strconv.ParseBool(s)
			return yes == (len(e.volumeUsers(v.Name)) == 0)
		})
	}), nil
}

// volumeUsers are the containers that have a volume.
func (e *Engine) volumeUsers(name string) []string {
	return slices.DeleteFunc(e.volumes.Users(name), func(id string) bool { return !e.exists(id) })
}

// VolumeUsers counts the containers that have a volume.
func (e *Engine) VolumeUsers(name string) int { return len(e.volumeUsers(name)) }

// Volume finds a volume.
func (e *Engine) Volume(name string) (*volume.Volume, error) { return e.volumes.Get(name) }

// RemoveVolume deletes a volume that no container has.
func (e *Engine) RemoveVolume(name string) error {
	return e.volumes.Discard(name, e.exists, func() string { return e.discard(trash.Volume, name, nil) })
}

// RenameVolume gives a volume that no container has another name.
func (e *Engine) RenameVolume(name, to string) error { return e.volumes.Rename(name, to, e.exists) }

// CloneVolume makes a volume with a copy of another's data; snapshot marks it as a state of the other, and lets its name
// be empty. With pause set the containers that have the volume stand still meanwhile, so that the copy is of one moment.
func (e *Engine) CloneVolume(name, to string, labels map[string]string, snapshot, pause bool) (*volume.Volume, error) {
	for _, id := range e.volumeUsers(name) {
		c, err := e.open(id)
		if err == nil && pause && c.Running() && c.Pause() == nil {
			defer c.Unpause()
		}
	}
	if snapshot {
		return e.volumes.Snapshot(name, to, e.exists)
	}
	return e.volumes.Clone(name, to, labels, e.exists)
}

// ExportVolume writes a volume's data as a tar archive that loses nothing.
func (e *Engine) ExportVolume(w io.Writer, name string) error {
	return e.volumes.Export(w, name, e.exists)
}

// ImportVolume makes a volume of a tar archive, or fills one that is empty. The archive may be compressed.
func (e *Engine) ImportVolume(r io.Reader, name string) error {
	in, _, err := layer.Decompress(r)
	if err != nil {
		return err
	}
	defer in.Close()
	return e.volumes.Import(in, name, e.exists)
}

// VolumeUsage measures a volume.
func (e *Engine) VolumeUsage(name string) (volume.Usage, error) {
	return e.volumes.DiskUsage(name, e.exists)
}

// VolumeFiles lists what is at a path of a volume, with all set everything below it.
func (e *Engine) VolumeFiles(name, path string, all bool) ([]volume.File, error) {
	return e.volumes.Files(name, path, all, e.exists)
}

// VolumeTree is a volume's files, to be copied from and to.
func (e *Engine) VolumeTree(name string) *files.Tree {
	return &files.Tree{What: "volume " + name, With: func(fn func(dir string) error) error { return e.volumes.WithData(name, e.exists, fn) }}
}
