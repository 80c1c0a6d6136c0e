//go:build linux

// Package registries is what is done with registries and no image of the store: searches, and lists of manifests that are
// put together here before they are pushed, as docker manifest does: each in a file of its own, manifests/<name>.json below
// the engine's data root, in which its name is percent-encoded.
package registries

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
)

// Lists is the folder of all lists.
type Lists struct{ dir string }

// Open makes the folder's name, below the engine's data root. It touches nothing.
func Open(root string) *Lists { return &Lists{filepath.Join(root, "manifests")} }

// Image is an image of a list, as inspect --verbose shows it.
type Image struct {
	Ref              string
	Descriptor       v1.Descriptor
	Raw              []byte
	SchemaV2Manifest json.RawMessage `json:",omitempty"` // one of the two
	OCIManifest      json.RawMessage `json:",omitempty"`
}

func describe(l registry.Listed) Image {
	i := Image{Ref: l.Ref, Descriptor: l.Descriptor, Raw: l.Raw}
	if l.Descriptor.MediaType == v1.MediaTypeImageManifest {
		i.OCIManifest = l.Raw
	} else {
		i.SchemaV2Manifest = l.Raw
	}
	return i
}

func (s *Lists) path(r reference.Reference) string {
	return filepath.Join(s.dir, url.PathEscape(r.String())+".json")
}

func (s *Lists) load(r reference.Reference) (images []registry.Listed, err error) {
	err = atomicfile.ReadJSON(s.path(r), &images)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Text(errs.NotFound, "No such manifest: "+r.Familiar())
	}
	for i := range images {
		if images[i].Descriptor.Platform == nil {
			images[i].Descriptor.Platform = &v1.Platform{}
		}
	}
	return images, errs.Wrap("open manifest "+r.Familiar(), err)
}

// Names lists the familiar names of all lists.
func (s *Lists) Names() (out []string) {
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.json"))
	for _, file := range files {
		name, err := url.PathUnescape(strings.TrimSuffix(filepath.Base(file), ".json"))
		if r, perr := reference.Parse(name); err == nil && perr == nil {
			out = append(out, r.Familiar())
		}
	}
	return out
}

// change changes a list, alone. The list is nil if there is none; what edit returns is kept.
func (s *Lists) change(r reference.Reference, edit func([]registry.Listed, error) ([]registry.Listed, error)) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return errs.Wrap("write manifest "+r.Familiar(), err)
	}
	lock, err := flock.Exclusive(filepath.Join(s.dir, ".lock"))
	if err != nil {
		return errs.Wrap("write manifest "+r.Familiar(), err)
	}
	defer lock.Unlock()
	images, err := edit(s.load(r))
	if err != nil {
		return err
	}
	return errs.Wrap("write manifest "+r.Familiar(), atomicfile.WriteJSON(s.path(r), images, atomicfile.Durable))
}

// Create makes a list of images of registries, or with amend adds to it. It returns its whole name.
func (s *Lists) Create(ctx context.Context, list string, names []string, amend, insecure bool) (string, error) {
	r, err := reference.Parse(list)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(s.path(r)); err == nil && !amend { // before anybody is asked
		return "", errs.Text(errs.Conflict, "refusing to amend an existing manifest list with no --amend flag")
	}
	var found []registry.Listed
	for _, name := range names {
		looked, err := registry.Look(ctx, name, insecure, func(l registry.Listed) { found = append(found, l) })
		if err == nil && looked.Index {
			err = errs.Text(errs.Invalid, name+" is a manifest list")
		}
		if err != nil {
			return "", err
		}
	}
	return r.String(), s.change(r, func(images []registry.Listed, err error) ([]registry.Listed, error) {
		if err != nil && !errs.Is(err, errs.NotFound) {
			return nil, err
		}
		for _, l := range found {
			at := slices.IndexFunc(images, func(have registry.Listed) bool { return have.Ref == l.Ref })
			if at < 0 {
				images = append(images, l)
			} else {
				images[at] = l
			}
		}
		return images, nil
	})
}

// Annotate changes what a list says of the platform of one of its images; what is empty stays.
func (s *Lists) Annotate(list, name string, p v1.Platform) error {
	r, err := reference.Parse(list)
	if err != nil {
		return err
	}
	of, err := reference.Parse(name)
	if err != nil {
		return err
	}
	return s.change(r, func(images []registry.Listed, err error) ([]registry.Listed, error) {
		at := slices.IndexFunc(images, func(l registry.Listed) bool { return l.Ref == of.String() })
		if err == nil && at < 0 {
			err = errs.Text(errs.NotFound, fmt.Sprintf("manifest for image %s does not exist in %s", name, list))
		}
		if err != nil {
			return nil, err
		}
		have := images[at].Descriptor.Platform
		for _, field := range []struct{ to, from *string }{{&have.OS, &p.OS}, {&have.Architecture, &p.Architecture}, {&have.Variant, &p.Variant}, {&have.OSVersion, &p.OSVersion}} {
			if *field.from != "" {
				*field.to = *field.from
			}
		}
		for _, feature := range p.OSFeatures {
			if !slices.Contains(have.OSFeatures, feature) {
				have.OSFeatures = append(have.OSFeatures, feature)
			}
		}
		return images, nil
	})
}

// Index is a list of manifests as a registry has it.
type Index struct{ json.RawMessage }

// Inspect describes what a name means: a list that is here, or what its registry has. With verbose it is an [Image], or
// several; else an [Index] or a manifest.
func (s *Lists) Inspect(ctx context.Context, name string, verbose, insecure bool) (any, error) {
	r, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	images, err := s.load(r)
	if err == nil {
		if verbose {
			return describeAll(images), nil
		}
		body, _ := registry.List(images)
		return Index{body}, nil
	}
	if !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	var collect func(registry.Listed)
	if verbose {
		collect = func(l registry.Listed) { images = append(images, l) }
	}
	looked, err := registry.Look(ctx, name, insecure, collect)
	switch {
	case errs.Is(err, errs.NotFound):
		return nil, errs.Text(errs.NotFound, "no such manifest: "+r.Familiar())
	case err != nil:
		return nil, err
	case !verbose && looked.Index:
		return Index{looked.Raw}, nil
	case !verbose:
		return json.RawMessage(looked.Raw), nil
	case looked.Index:
		return describeAll(images), nil
	}
	return describe(images[0]), nil
}

func describeAll(images []registry.Listed) []Image {
	out := []Image{}
	for _, l := range images {
		out = append(out, describe(l))
	}
	return out
}

// InspectIn describes an image of a list that is here.
func (s *Lists) InspectIn(list, name string, verbose bool) (any, error) {
	r, err := reference.Parse(list)
	if err != nil {
		return nil, err
	}
	of, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	images, err := s.load(r)
	if err != nil {
		return nil, err
	}
	for _, l := range images {
		if l.Ref == of.String() {
			if verbose {
				return describe(l), nil
			}
			return json.RawMessage(l.Raw), nil
		}
	}
	return nil, errs.Text(errs.NotFound, fmt.Sprintf("manifest for image %s does not exist in %s", name, list))
}

// Push sends a list to where its name says and tells each of its images. It returns its digest; with purge the list is
// gone here then.
func (s *Lists) Push(ctx context.Context, list string, purge, insecure bool, pushed func(ref, digest string)) (string, error) {
	r, err := reference.Parse(list)
	if err != nil {
		return "", err
	}
	images, err := s.load(r)
	if err != nil {
		return "", err
	}
	for _, l := range images {
		if p := l.Descriptor.Platform; p.OS == "" || p.Architecture == "" {
			return "", errs.Text(errs.Invalid, fmt.Sprintf("manifest %s must have an OS and Architecture to be pushed to a registry", l.Ref)).
				WithHint("berth manifest annotate --os OS --arch ARCH")
		}
	}
	d, err := registry.PushList(ctx, list, images, insecure, pushed)
	if err == nil && purge {
		err = s.Remove(list)
	}
	return d, err
}

// Remove forgets a list.
func (s *Lists) Remove(list string) error {
	r, err := reference.Parse(list)
	if err != nil {
		return err
	}
	err = os.Remove(s.path(r))
	if errors.Is(err, fs.ErrNotExist) {
		return errs.Text(errs.NotFound, "No such manifest: "+r.Familiar())
	}
	return errs.Wrap("remove manifest "+list, err)
}
