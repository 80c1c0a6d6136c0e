//go:build linux

package registry

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry/hosts"
	"github.com/berth-containers/berth/internal/errs"
)

const largestJSON = 16 << 20

// Pushed is what a push brought to a registry.
type Pushed struct {
	Tag    string
	Digest string
	Size   int // bytes of the manifest
}

// Push sends an image to where its name says, byte for byte as it is in the store.
func Push(ctx context.Context, s *image.Store, what string, o Options) (*Pushed, error) {
	r, err := reference.Parse(what)
	if err != nil {
		return nil, err
	}
	img, err := s.Resolve(what)
	if err != nil {
		return nil, err
	}
	stored, err := open(s, img, &o)
	if err != nil {
		return nil, err
	}
	list, err := places(r)
	if err != nil {
		return nil, errs.Wrap("push "+r.Familiar(), err)
	}
	to, err := pushPlace(list)
	if err != nil {
		return nil, errs.Wrap("push "+r.Familiar(), err)
	}
	sources, scopes, err := mountable(s, r, to, img)
	if err != nil {
		return nil, err
	}
	o.tell("The push refers to repository ["+r.Name()+"]", "")
	for _, l := range img.Layers {
		o.tell(l.Blob.Encoded()[:12], "Preparing")
	}
	c, err := connect(ctx, to, "", scopes...)
	if err == nil {
		err = remote.Write(c.reference(identifier(r)), &mounting{stored, sources}, c.options(ctx)...)
	}
	if err != nil {
		return nil, explain("push "+r.Familiar(), err)
	}
	for _, l := range img.Layers {
		stored.core.sayPushed(l.Blob)
	}
	return &Pushed{identifier(r), img.Manifest, len(stored.core.manifest)}, s.NamePulled(r, img.Manifest, img)
}

// pushPlace is where images of a repository are sent.
func pushPlace(list []hosts.Place) (hosts.Place, error) {
	for _, p := range list {
		if p.Push {
			return p, nil
		}
	}
	return hosts.Place{}, errs.Text(errs.Permission, "no place takes it: see hosts.toml")
}

// mountable finds, for layers of an image, other repositories of the same registry that have them, so that the registry
// takes them from there (distribution-spec, "Mounting a blob from another repository"), and the scopes of a push that
// does.
func mountable(s *image.Store, r reference.Reference, to hosts.Place, img *image.Image) (map[digest.Digest]name.Reference, []string, error) {
	repo, err := repositoryOf(to)
	if err != nil {
		return nil, nil, err
	}
	out, scopes := map[digest.Digest]name.Reference{}, []string{repo.Scope(transport.PushScope)}
	list, err := s.List()
	if err != nil || to.Repository != r.Path { // where names differ, those of other repositories are not known
		return out, scopes, err
	}
	for _, other := range list {
		for _, full := range other.Digests { // what has one was there
			have, err := reference.Parse(full)
			if err != nil || have.Domain != r.Domain || have.Path == r.Path {
				continue
			}
			place := to
			place.Repository = have.Path
			from, err := repositoryOf(place)
			if err != nil {
				continue
			}
			for _, l := range other.Layers {
				if out[l.Blob] == nil && slices.ContainsFunc(img.Layers, func(mine image.Layer) bool { return mine.Blob == l.Blob }) {
					out[l.Blob] = from.Digest(have.Digest)
					scopes = append(scopes, from.Scope(transport.PullScope))
				}
			}
		}
	}
	slices.Sort(scopes[1:])
	return out, slices.Compact(scopes), nil
}

// mounting is an image of which some layers are in other repositories.
type mounting struct {
	*stored
	from map[digest.Digest]name.Reference
}

// Layers is v1.Image's.
func (m *mounting) Layers() ([]v1.Layer, error) {
	list, err := m.Image.Layers()
	for i, l := range list {
		if h, err := l.Digest(); err == nil && m.from[digest.Digest(h.String())] != nil {
			list[i] = &remote.MountableLayer{Layer: l, Reference: m.from[digest.Digest(h.String())]}
		}
	}
	return list, err
}

// stored is an image of the store as go-containerregistry takes it.
type stored struct {
	v1.Image
	core *core
}

// core is what it is made of.
type core struct {
	s        *image.Store
	o        *Options
	sent     sync.Map // digests of layers that were not there
	manifest []byte
	config   []byte
	kind     types.MediaType
	layers   map[digest.Digest]v1.Descriptor
}

func open(s *image.Store, img *image.Image, options *Options) (*stored, error) {
	o := &core{s: s, o: options, layers: map[digest.Digest]v1.Descriptor{}}
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
	whole, err := partial.CompressedToImage(o)
	return &stored{whole, o}, err
}

// RawConfigFile, MediaType, RawManifest and LayerByDigest are those of partial.CompressedImageCore.
func (o *core) RawConfigFile() ([]byte, error)      { return o.config, nil }
func (o *core) MediaType() (types.MediaType, error) { return o.kind, nil }
func (o *core) RawManifest() ([]byte, error)        { return o.manifest, nil }
func (o *core) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	d, ok := o.layers[digest.Digest(h.String())]
	if !ok {
		return nil, errs.Text(errs.NotFound, "the image has no layer "+h.String())
	}
	return &blob{o, d}, nil
}

// sayPushed tells what became of a layer.
func (o *core) sayPushed(d digest.Digest) {
	state := "Layer already exists"
	if _, sent := o.sent.Load(d); sent {
		state = "Pushed"
	}
	o.o.tell(d.Encoded()[:12], state)
}

// blob is a layer of the store.
type blob struct {
	c *core
	d v1.Descriptor
}

func (b *blob) Digest() (v1.Hash, error)            { return b.d.Digest, nil }
func (b *blob) Size() (int64, error)                { return b.d.Size, nil }
func (b *blob) MediaType() (types.MediaType, error) { return b.d.MediaType, nil }
func (b *blob) Compressed() (io.ReadCloser, error) {
	d := digest.Digest(b.d.Digest.String())
	f, err := b.c.s.Blobs().Open(d)
	if err != nil {
		return nil, err
	}
	b.c.sent.Store(d, true)
	return &counted{f, func(at int64) { b.c.o.count(d.Encoded()[:12], "Pushing", at, b.d.Size) }, 0}, nil
}

// counted tells how much of a file was read.
type counted struct {
	io.ReadCloser
	tell func(at int64)
	at   int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.at += int64(n)
	c.tell(c.at)
	return n, err
}
