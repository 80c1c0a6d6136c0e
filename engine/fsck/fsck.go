//go:build linux

// Package fsck looks for damage in what an engine keeps, after a power cut or on a failing disk, and mends it: images by
// unpacking their blobs again; of containers it says which cannot start.
package fsck

import (
	"os"
	"path/filepath"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/internal/errs"
)

// Result is one flaw, and what became of it.
type Result struct {
	image.Flaw
	Fixed bool
	Error string `json:",omitempty"` // why it could not be mended
}

// Check looks at everything that an engine keeps of images and containers, which takes as long as unpacking all images
// once. With repair it mends what it can. What removes images waits meanwhile.
func Check(e *engine.Engine, repair bool) ([]Result, error) {
	store := e.ImageStore()
	unfinished, err := store.Unfinished()
	if err != nil {
		return nil, err
	}
	lock, err := store.Writing()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	runs, broken, err := containers(e)
	if err != nil {
		return nil, err
	}
	flaws, err := store.Check(func(tree string) string { return runs[tree] })
	if err != nil {
		return nil, err
	}
	var out []Result
	for _, f := range append(unfinished, flaws...) {
		r := Result{Flaw: f}
		if repair && f.Mend != nil {
			if err := f.Mend(); err != nil {
				r.Error = err.Error()
			} else {
				r.Fixed = true
			}
		}
		out = append(out, r)
	}
	for _, c := range broken {
		if f := c(); f != nil { // what it lacked may be there again
			out = append(out, Result{Flaw: *f})
		}
	}
	return out, nil
}

// containers finds the trees that containers run on, by the names of containers, and a check of each container.
func containers(e *engine.Engine) (runs map[string]string, checks []func() *image.Flaw, err error) {
	entries, err := os.ReadDir(filepath.Join(e.Root(), "containers"))
	if err != nil {
		return nil, nil, errs.Wrap("check containers", err)
	}
	runs = map[string]string{}
	for _, entry := range entries {
		id := entry.Name()
		if len(id) != 64 {
			continue
		}
		c, err := e.Lookup(id)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			checks = append(checks, func() *image.Flaw {
				return &image.Flaw{Kind: "container", What: id, Why: err.Error(), Advice: "berth rm -f " + id[:12]}
			})
			continue
		}
		if s := c.Inspect(false).State.Status; s != docker.StateCreated && s != docker.StateExited {
			for _, tree := range c.Lowers {
				runs[tree] = c.Name
			}
		}
		checks = append(checks, func() *image.Flaw {
			for _, tree := range c.Lowers {
				if _, err := os.Lstat(tree); err != nil {
					return &image.Flaw{Kind: "container", What: c.Name, Why: "a layer that it stands on is not there: " + tree,
						Advice: "berth pull " + c.Image + ", or berth rm " + c.Name}
				}
			}
			return nil
		})
	}
	return runs, checks, nil
}
