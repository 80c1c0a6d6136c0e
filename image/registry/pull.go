//go:build linux

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/errs"
)

// Options of Pull and Push.
type Options struct {
	Platform string                   // os/arch[/variant]; "" is this host's
	Progress func(part, state string) // what becomes of each part; may be called by several at once; nil: nobody looks
}

func (o *Options) tell(part, state string) {
	if o.Progress != nil {
		o.Progress(part, state)
	}
}

const atOnce = 4 // layers that are downloaded at the same time

// Pull fetches an image and gives it its name. It returns the digest that the name means at the registry, too.
func Pull(ctx context.Context, s *image.Store, what string, o Options) (img *image.Image, d string, err error) {
	r, err := reference.Parse(what)
	if err != nil {
		return nil, "", err
	}
	ref, err := parse(r)
	if err != nil {
		return nil, "", err
	}
	platform := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if o.Platform != "" {
		p, err := v1.ParsePlatform(o.Platform)
		if err != nil {
			return nil, "", errs.New(errs.Invalid, "", err)
		}
		platform = *p
	}
	opts, err := options(ctx, r.Domain, &platform)
	if err != nil {
		return nil, "", err
	}
	descriptor, err := remote.Get(ref, opts...)
	if err != nil {
		return nil, "", explain("pull "+r.Familiar(), err)
	}
	if descriptor.MediaType == types.DockerManifestSchema1 || descriptor.MediaType == types.DockerManifestSchema1Signed {
		return nil, "", errs.New(errs.Unsupported, "pull "+r.Familiar(), errors.New("its manifest has Docker's schema 1, which is deprecated and cannot be checked"))
	}
	from, err := descriptor.Image()
	if err != nil {
		return nil, "", explain("pull "+r.Familiar(), err)
	}
	img, err = fetch(ctx, s, from, &o)
	if err != nil {
		return nil, "", explain("pull "+r.Familiar(), err)
	}
	return img, descriptor.Digest.String(), s.NamePulled(r, descriptor.Digest.String(), img)
}

// fetch brings an image into the store.
func fetch(ctx context.Context, s *image.Store, from v1.Image, o *Options) (*image.Image, error) {
	manifest, err := from.RawManifest()
	if err != nil {
		return nil, err
	}
	config, err := from.RawConfigFile()
	if err != nil {
		return nil, err
	}
	var c struct {
		RootFS struct {
			DiffIDs []digest.Digest `json:"diff_ids"`
		} `json:"rootfs"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, errs.New(errs.Invalid, "read configuration", err)
	}
	layers, err := from.Layers()
	if err != nil {
		return nil, err
	}
	if len(layers) != len(c.RootFS.DiffIDs) {
		return nil, errs.New(errs.Invalid, "", fmt.Errorf("%d layers, and the configuration has %d", len(layers), len(c.RootFS.DiffIDs)))
	}
	lock, err := s.Writing()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	added := make([]image.Layer, len(layers))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, l := range layers {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			got, err := fetchLayer(s, l, c.RootFS.DiffIDs[i], o)
			if err != nil {
				cancel(err)
				return
			}
			added[i] = *got
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return s.AddImage(manifest, config, added)
}

func fetchLayer(s *image.Store, l v1.Layer, diffID digest.Digest, o *Options) (*image.Layer, error) {
	d, err := l.Digest()
	if err != nil {
		return nil, err
	}
	kind, err := l.MediaType()
	if err != nil {
		return nil, err
	}
	part := d.Hex[:12]
	if !kind.IsDistributable() {
		return nil, errs.New(errs.Unsupported, "pull layer "+part, errors.New("it is a foreign layer, which registries do not hand out"))
	}
	if have, ok := s.LayerOf(diffID); ok && have.Blob == digest.Digest(d.String()) {
		o.tell(part, "Already exists")
		return have, nil
	}
	o.tell(part, "Downloading")
	in, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	added, err := s.AddLayer(in, digest.Digest(d.String()), diffID)
	if err != nil {
		return nil, err
	}
	if k := string(kind); strings.HasPrefix(k, "application/vnd.docker.") || strings.HasPrefix(k, "application/vnd.oci.") {
		added.Type = k // as its manifest says
	}
	o.tell(part, "Pull complete")
	return added, nil
}
