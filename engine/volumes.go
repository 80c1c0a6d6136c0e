//go:build linux

package engine

import (
	"slices"
	"strings"

	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/volume"
)

// CreateVolume makes a volume, or finds the one of that name.
func (e *Engine) CreateVolume(name, driver string, labels, options map[string]string) (*volume.Volume, error) {
	if driver != "" && driver != "local" {
		return nil, errs.Text(errs.NotFound, `error looking up volume plugin `+driver+`: plugin "`+driver+`" not found`)
	}
	return e.volumes.Create(name, labels, options)
}

// Volumes lists volumes.
func (e *Engine) Volumes(f Filters) ([]*volume.Volume, error) {
	if err := checkFilters(f, "dangling", "driver", "label", "name"); err != nil {
		return nil, err
	}
	all, err := e.volumes.List()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(v *volume.Volume) bool {
		return !f.any("name", func(s string) bool { return strings.Contains(v.Name, s) }) || !f.any("driver", func(s string) bool { return v.Driver == s }) ||
			!matchLabels(v.Labels, f["label"]) || !f.any("dangling", func(s string) bool { return (s == "true" || s == "1") == (len(e.volumeUsers(v.Name)) == 0) })
	}), nil
}

// volumeUsers are the containers that have a volume.
func (e *Engine) volumeUsers(name string) []string {
	return slices.DeleteFunc(e.volumes.Users(name), func(id string) bool { return !e.exists(id) })
}

// Volume finds a volume.
func (e *Engine) Volume(name string) (*volume.Volume, error) { return e.volumes.Get(name) }

// RemoveVolume deletes a volume that no container has.
func (e *Engine) RemoveVolume(name string) error { return e.volumes.Remove(name, e.exists) }

// PruneVolumes removes volumes that no container has: anonymous ones, or with the filter all=true every one.
func (e *Engine) PruneVolumes(f Filters) (names []string, freed int64, err error) {
	if err := checkFilters(f, "all", "label", "label!"); err != nil {
		return nil, 0, err
	}
	all := slices.Contains(f["all"], "true") || slices.Contains(f["all"], "1")
	unused, err := e.volumes.Unused(all, e.exists)
	if err != nil {
		return nil, 0, err
	}
	for _, v := range unused {
		if !matchLabels(v.Labels, f["label"]) || len(f["label!"]) > 0 && matchLabels(v.Labels, f["label!"]) {
			continue
		}
		size := layer.Size(v.Mountpoint)
		if err := e.RemoveVolume(v.Name); err == nil {
			names, freed = append(names, v.Name), freed+size
		}
	}
	return names, freed, nil
}
