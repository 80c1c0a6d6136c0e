//go:build linux

package engine

import (
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/internal/errs"
)

// PruneContainers removes containers that do not run, and returns their ids and how many bytes they had written.
func (e *Engine) PruneContainers(f Filters) (ids []string, freed int64, err error) {
	if err := checkFilters(f, "label", "label!", "until"); err != nil {
		return nil, 0, err
	}
	until, err := untilFilter(f)
	if err != nil {
		return nil, 0, err
	}
	all, err := e.all()
	if err != nil {
		return nil, 0, err
	}
	for _, c := range all {
		s := c.state().Status
		if s != docker.StateExited && s != docker.StateCreated || !until.IsZero() && c.Created.After(until) || !matchLabels(c.Labels, f["label"]) {
			continue
		}
		if len(f["label!"]) > 0 && matchLabels(c.Labels, f["label!"]) {
			continue
		}
		size, _ := c.sizes()
		if err := c.Remove(RemoveOptions{}); err != nil {
			if errs.Is(err, errs.Conflict) { // it was started meanwhile
				continue
			}
			return ids, freed, err
		}
		ids, freed = append(ids, c.ID), freed+size
	}
	return ids, freed, nil
}

// untilFilter reads until=TIME: a time, or how long ago.
func untilFilter(f Filters) (time.Time, error) {
	var out time.Time
	for _, v := range f["until"] {
		if d, err := time.ParseDuration(v); err == nil {
			out = time.Now().Add(-d)
			continue
		}
		t, err := time.Parse(time.RFC3339, v)
		if err != nil {
			return out, errs.Text(errs.Invalid, "invalid filter 'until="+v+"'")
		}
		out = t
	}
	return out, nil
}
