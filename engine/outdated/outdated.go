//go:build linux

// Package outdated asks registries whether the names of images mean something newer there.
package outdated

import (
	"context"
	"slices"
	"strings"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/match"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry"
)

// Image is a name of an image that means something else at its registry by now.
type Image struct {
	Name  string   // familiar
	Here  string   // digest that it had when it was pulled; "" of an image that was not
	There string   // digest that it has now
	Users []string // containers that were made of what is here
}

// Find asks the registries of images, all with a digest or those named, whether the names mean something newer. What
// cannot be asked is handed over with its error.
func Find(ctx context.Context, e *engine.Engine, names []string, each func(i Image, newer bool, err error)) error {
	list, err := e.ImageStore().List()
	if err != nil {
		return err
	}
	for _, img := range list {
		for _, name := range img.Names {
			r, err := reference.Parse(name)
			wanted := len(names) == 0 && len(img.Digests) > 0 || slices.ContainsFunc(names, func(n string) bool { return match.Repository(r, n) })
			if err != nil || !wanted || r.Domain == "localhost" {
				continue
			}
			o := Image{Name: r.Familiar()}
			for _, full := range img.Digests {
				if repository, digest, _ := strings.Cut(full, "@"); repository == r.Name() {
					o.Here = digest
				}
			}
			for _, id := range e.ImageUsers(img.ID) {
				if c, err := e.Lookup(id); err == nil {
					o.Users = append(o.Users, c.Name)
				}
			}
			o.There, err = registry.Digest(ctx, name)
			each(o, err == nil && o.There != o.Here, err)
		}
	}
	return nil
}
