//go:build linux

package registry

import (
	"context"
	"encoding/json"
	"io"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/errs"
)

const largestJSON = 16 << 20

// Push sends an image to where its name says, byte for byte as it is in the store, and returns its digest there.
func Push(ctx context.Context, s *image.Store, what string, o Options) (string, error) {
	r, err := reference.Parse(what)
	if err != nil {
		return "", err
	}
	img, err := s.Resolve(what)
	if err != nil {
		return "", err
	}
	ref, err := parse(r)
	if err != nil {
		return "", err
	}
	stored, err := open(s, img)
	if err != nil {
		return "", err
	}
	opts, err := options(ctx, r.Domain, nil)
	if err != nil {
		return "", err
	}
	for _, l := range img.Layers {
		o.tell(string(l.Blob)[7:19], "Preparing")
	}
	if err := remote.Write(ref, stored, opts...); err != nil {
		return "", explain("push "+r.Familiar(), err)
	}
	for _, l := range img.Layers {
		o.tell(string(l.Blob)[7:19], "Pushed")
	}
	return img.Manifest, nil
}

// stored is an image of the store, as go-containerregistry takes it.
type stored struct {
	s        *image.Store
	manifest []byte
	config   []byte
	kind     types.MediaType
	layers   map[digest.Digest]v1.Descriptor
}

func open(s *image.Store, img *image.Image) (v1.Image, error) {
	o := &stored{s: s, layers: map[digest.Digest]v1.Descriptor{}}
	var err error
	if o.manifest, err = s.Blobs().Read(digest.Digest(img.Manifest), largestJSON); err != nil {
		return nil, err
	}
	if o.config, err = s.Blobs().Read(digest.Digest(img.ID), largestJSON); err != nil {
		return nil, err
	}
	var m v1.Manifest
	if err := json.Unmarshal(o.manifest, &m); err != nil {
		return nil, errs.Wrap("read manifest", err)
	}
	if o.kind = m.MediaType; o.kind == "" {
		o.kind = types.OCIManifestSchema1
	}
	for _, l := range m.Layers {
		o.layers[digest.Digest(l.Digest.String())] = l
	}
	return partial.CompressedToImage(o)
}

// RawConfigFile, MediaType, RawManifest and LayerByDigest are those of partial.CompressedImageCore.
func (o *stored) RawConfigFile() ([]byte, error)      { return o.config, nil }
func (o *stored) MediaType() (types.MediaType, error) { return o.kind, nil }
func (o *stored) RawManifest() ([]byte, error)        { return o.manifest, nil }
func (o *stored) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	d, ok := o.layers[digest.Digest(h.String())]
	if !ok {
		return nil, errs.Text(errs.NotFound, "the image has no layer "+h.String())
	}
	return &blob{o.s, d}, nil
}

// blob is a layer of the store.
type blob struct {
	s *image.Store
	d v1.Descriptor
}

func (b *blob) Digest() (v1.Hash, error)            { return b.d.Digest, nil }
func (b *blob) Size() (int64, error)                { return b.d.Size, nil }
func (b *blob) MediaType() (types.MediaType, error) { return b.d.MediaType, nil }
func (b *blob) Compressed() (io.ReadCloser, error) {
	return b.s.Blobs().Open(digest.Digest(b.d.Digest.String()))
}
