//go:build linux

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-containers/berth/internal/errs"
)

// Docker's media types (distribution, schema 2), beside those of image-spec.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1+" // and json or prettyjws
)

const (
	accepted        = v1.MediaTypeImageIndex + ", " + v1.MediaTypeImageManifest + ", " + dockerList + ", " + dockerManifest
	largestManifest = 4 << 20 // the least that registries must take (distribution-spec)
	largestConfig   = 8 << 20
	deepest         = 3 // indexes in indexes
)

// document is a manifest or an index, as it came.
type document struct {
	body   []byte
	digest digest.Digest
	kind   string // media type
	v1.Manifest
	Manifests []v1.Descriptor `json:"manifests"`
}

func (d *document) isIndex() bool { return d.kind == v1.MediaTypeImageIndex || d.kind == dockerList }

// document fetches a manifest or an index by tag or digest.
func (c *client) document(ctx context.Context, id string) (*document, error) {
	body, contentType, err := c.small(ctx, "manifests", id, accepted, largestManifest)
	if err != nil {
		return nil, err
	}
	d, err := parseDocument(body, contentType)
	if err == nil && strings.HasPrefix(id, "sha256:") && d.digest != digest.Digest(id) {
		err = lie("asked for the manifest %s, the registry answers with %s", id, d.digest)
	}
	return d, err
}

// parseDocument reads a manifest or an index. One that could be taken for both is refused (CVE-2021-41190).
func parseDocument(body []byte, contentType string) (*document, error) {
	d := &document{body: body, digest: digest.FromBytes(body)}
	if err := json.Unmarshal(body, d); err != nil {
		return nil, errs.New(errs.Invalid, "read manifest", err)
	}
	kind, _, _ := mime.ParseMediaType(contentType)
	known := strings.Contains(accepted, kind) && strings.HasPrefix(kind, "application/vnd.")
	switch d.kind = d.MediaType; {
	case strings.HasPrefix(kind, dockerSchema1):
		return nil, errs.New(errs.Unsupported, "", errors.New("its manifest has Docker's schema 1, which is deprecated and cannot be checked"))
	case d.kind == "" && known:
		d.kind = kind
	case d.kind == "" && d.Manifests != nil:
		d.kind = v1.MediaTypeImageIndex
	case d.kind == "":
		d.kind = v1.MediaTypeImageManifest
	case known && d.kind != kind:
		return nil, lie("its manifest has the media type %s, the registry says %s", d.kind, kind)
	}
	switch {
	case !strings.Contains(accepted, d.kind):
		return nil, errs.Text(errs.Unsupported, "its manifest has the media type "+d.kind)
	case d.isIndex() && (d.Layers != nil || d.Config.Digest != ""), !d.isIndex() && d.Manifests != nil:
		return nil, lie("its manifest is ambiguous: a list of manifests, and layers")
	}
	return d, nil
}

// found is an image of a registry, all of it but its layers.
type found struct {
	name     digest.Digest // what was asked for means, maybe an index
	manifest *document
	config   []byte
	diffIDs  []digest.Digest
}

// find looks up an image for a platform.
func (c *client) find(ctx context.Context, id string, p v1.Platform) (*found, error) {
	d, err := c.document(ctx, id)
	if err != nil {
		return nil, err
	}
	f := &found{name: d.digest}
	for depth := 0; d.isIndex(); depth++ {
		if depth == deepest {
			return nil, lie("indexes within indexes without an end")
		}
		one, err := choose(d.Manifests, p)
		if err != nil {
			return nil, err
		}
		if d, err = c.document(ctx, string(one.Digest)); err != nil {
			return nil, err
		}
		if int64(len(d.body)) != one.Size {
			return nil, lie("the manifest %s has %d bytes, the index says %d", d.digest, len(d.body), one.Size)
		}
	}
	f.manifest = d
	switch d.Config.MediaType {
	case v1.MediaTypeImageConfig, dockerConfig, "application/octet-stream", "":
	default:
		return nil, errs.Text(errs.Unsupported, "it is no image: its configuration has the media type "+d.Config.MediaType)
	}
	return f, f.readConfig(ctx, c)
}

func (f *found) readConfig(ctx context.Context, c *client) (err error) {
	d := f.manifest.Config
	if d.Digest.Validate() != nil || d.Digest.Algorithm() != digest.SHA256 {
		return lie("its configuration has the digest %q", d.Digest)
	}
	if f.config, _, err = c.small(ctx, "blobs", string(d.Digest), "", largestConfig); err != nil {
		return errs.Wrap("read configuration", err)
	}
	if got := digest.FromBytes(f.config); got != d.Digest || int64(len(f.config)) != d.Size {
		return lie("its configuration has the digest %s and %d bytes, the manifest says %s and %d", got, len(f.config), d.Digest, d.Size)
	}
	var config struct {
		RootFS v1.RootFS `json:"rootfs"`
	}
	if err := json.Unmarshal(f.config, &config); err != nil {
		return errs.New(errs.Invalid, "read configuration", err)
	}
	f.diffIDs = config.RootFS.DiffIDs
	if len(f.manifest.Layers) != len(f.diffIDs) {
		return lie("%d layers, and the configuration has %d", len(f.manifest.Layers), len(f.diffIDs))
	}
	return nil
}

// choose finds the first manifest of an index that is for a platform. A variant counts if one is asked for.
func choose(list []v1.Descriptor, p v1.Platform) (v1.Descriptor, error) {
	for _, d := range list {
		if d.Platform == nil || d.Platform.OS != p.OS || d.Platform.Architecture != p.Architecture {
			continue
		}
		if p.Variant == "" || variant(*d.Platform) == variant(p) {
			return d, nil
		}
	}
	want := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		want += "/" + p.Variant
	}
	return v1.Descriptor{}, errs.Text(errs.NotFound, fmt.Sprintf("no matching manifest for %s in the manifest list entries", want))
}

// variant is that of a platform, also where it goes without saying.
func variant(p v1.Platform) string {
	switch {
	case p.Variant == "" && p.Architecture == "arm64":
		return "v8"
	case p.Variant == "" && p.Architecture == "arm":
		return "v7"
	}
	return p.Variant
}
