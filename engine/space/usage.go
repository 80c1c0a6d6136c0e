//go:build linux

// Package space says what images, containers and volumes take of the disk, and keeps images within a budget.
package space

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/imagemount"
	"github.com/berth-containers/berth/engine/trash"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/usage"
)

// Kind is a line of `system df`; there is one of the trash when something is in it. Sizes are bytes of the disk, as du(1) counts them.
type Kind struct {
	Type              string // Images, Containers, Local Volumes, Build Cache, Trash
	Total, Active     int
	Size, Reclaimable int64
}

// Image is what an image takes: the trees of its layers, and its blobs.
type Image struct {
	*image.Image
	Repository, Tag string // of its first name; "<none>" without
	Disk, Shared    int64  // Shared is what other images have, too
	Containers      int
}

// Container is what a container takes: what it has written, its logs and snapshots.
type Container struct {
	docker.Summary
	Disk int64
}

// Volume is what a volume takes.
type Volume struct {
	Name  string
	Links int // containers that have it
	Disk  int64
}

// Report is all of it.
type Report struct {
	Kinds      []Kind
	Images     []Image
	Containers []Container
	Volumes    []Volume
}

// Measure goes through everything that an engine keeps.
func Measure(e *engine.Engine) (*Report, error) {
	r := &Report{}
	containers, err := r.containers(e)
	if err != nil {
		return nil, err
	}
	images, err := r.images(e)
	if err != nil {
		return nil, err
	}
	volumes, err := r.volumes(e)
	if err != nil {
		return nil, err
	}
	r.Kinds = []Kind{*images, *containers, *volumes, {Type: "Build Cache"}}
	if items := trash.List(e.Root()); len(items) > 0 {
		size := usage.Disk(filepath.Join(e.Root(), "trash"))
		r.Kinds = append(r.Kinds, Kind{"Trash", len(items), 0, size, size})
	}
	return r, nil
}

func (r *Report) containers(e *engine.Engine) (*Kind, error) {
	list, err := e.List(engine.ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	k := &Kind{Type: "Containers", Total: len(list), Size: usage.Disk(filepath.Join(e.Root(), "containers")) + usage.Disk(filepath.Join(e.Root(), "names"))}
	for _, s := range list {
		c := Container{s, usage.Disk(filepath.Join(e.Root(), "containers", s.ID))}
		if s.State == docker.StateRunning || s.State == docker.StatePaused || s.State == docker.StateRestarting {
			k.Active++
		} else {
			k.Reclaimable += c.Disk
		}
		r.Containers = append(r.Containers, c)
	}
	return k, nil
}

func (r *Report) volumes(e *engine.Engine) (*Kind, error) {
	list, err := e.Volumes(nil)
	if err != nil {
		return nil, err
	}
	k := &Kind{Type: "Local Volumes", Total: len(list), Size: usage.Disk(filepath.Join(e.Root(), "volumes"))}
	for _, v := range list {
		u := Volume{v.Name, e.VolumeUsers(v.Name), usage.Disk(filepath.Join(e.Root(), "volumes", v.Name))}
		if u.Links > 0 {
			k.Active++
		} else {
			k.Reclaimable += u.Disk
		}
		r.Volumes = append(r.Volumes, u)
	}
	return k, nil
}

// users says which containers have which image, by its id, and which layers' trees are in use.
func users(e *engine.Engine) (ofImage map[string]int, trees map[string]bool, err error) {
	ofImage, trees = map[string]int{}, map[string]bool{}
	list, err := e.List(engine.ListOptions{All: true})
	if err != nil {
		return nil, nil, err
	}
	for _, s := range list {
		c, err := e.Lookup(s.ID)
		if err != nil {
			continue // it was removed meanwhile
		}
		has := map[string]bool{c.ImageID: true}
		for _, m := range c.Mounts {
			has[m.Image] = true
		}
		for id := range has {
			ofImage[id]++
		}
		for _, tree := range c.Lowers {
			trees[filepath.Base(filepath.Dir(tree))] = true
		}
	}
	mounted, err := imagemount.List(e.State())
	for _, m := range mounted {
		ofImage[m.ImageID]++
		for _, tree := range m.Trees {
			trees[filepath.Base(filepath.Dir(tree))] = true
		}
	}
	return ofImage, trees, err
}

// images measures the trees and blobs one by one, because images share them.
func (r *Report) images(e *engine.Engine) (*Kind, error) {
	list, err := e.ImageStore().List()
	if err != nil {
		return nil, err
	}
	of, trees, err := users(e)
	if err != nil {
		return nil, err
	}
	k := &Kind{Type: "Images", Total: len(list)}
	disk := map[string]int64{} // by "layers/<hex>" and "blobs/sha256/<hex>"
	for _, dir := range []string{"layers", "blobs/sha256"} {
		entries, err := os.ReadDir(filepath.Join(e.Root(), dir))
		if err != nil && !os.IsNotExist(err) {
			return nil, errs.Wrap("measure images", err)
		}
		for _, entry := range entries {
			name := dir + "/" + entry.Name()
			disk[name] = usage.Disk(filepath.Join(e.Root(), name))
			k.Reclaimable += disk[name]
		}
	}
	shared, kept := map[string]int{}, map[string]bool{"layers/empty": true}
	removed, err := e.ImageStore().Kept()
	if err != nil {
		return nil, err
	}
	for _, img := range removed {
		for _, name := range parts(img) {
			kept[name] = true
		}
	}
	for _, img := range list {
		if of[img.ID] > 0 {
			k.Active++
		}
		for _, name := range parts(img) {
			shared[name]++
			kept[name] = kept[name] || of[img.ID] > 0
		}
	}
	for hex := range trees {
		kept["layers/"+hex] = true
	}
	for name, size := range disk {
		if kept[name] {
			k.Reclaimable -= size
		}
	}
	for _, img := range list {
		u := Image{Image: img, Repository: "<none>", Tag: "<none>", Containers: of[img.ID]}
		if all := append(img.Names, img.Digests...); len(all) > 0 {
			u.name(all[0])
		}
		for _, name := range parts(img) {
			if u.Disk += disk[name]; shared[name] > 1 {
				u.Shared += disk[name]
			}
		}
		r.Images = append(r.Images, u)
	}
	loads, _ := filepath.Glob(filepath.Join(e.Root(), ".load-*"))
	for _, path := range append(loads, e.Root()+"/layers", e.Root()+"/blobs", e.Root()+"/images", e.Root()+"/refs", e.Root()+"/ingest") {
		k.Size += usage.Disk(path)
	}
	return k, nil
}

func (u *Image) name(text string) {
	r, err := reference.Parse(text)
	if err != nil {
		return
	}
	if r.Tag != "" {
		u.Tag = r.Tag
	}
	r.Tag, r.Digest = "", ""
	u.Repository = r.Familiar()
}

// parts are what an image has in the store, each once.
func parts(img *image.Image) (out []string) {
	for _, d := range []string{img.ID, img.Manifest} {
		out = append(out, "blobs/sha256/"+strings.TrimPrefix(d, "sha256:"))
	}
	for _, l := range img.Layers {
		out = append(out, "blobs/sha256/"+l.Blob.Encoded(), "layers/"+l.DiffID.Encoded())
	}
	slices.Sort(out)
	return slices.Compact(out)
}
