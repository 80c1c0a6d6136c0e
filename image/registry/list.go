//go:build linux

package registry

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry/hosts"
	"github.com/berth-containers/berth/internal/errs"
)

// Listed is an image of a registry, as a list of manifests has it.
type Listed struct {
	Ref        string        // its whole name
	Descriptor v1.Descriptor // with its platform
	Raw        []byte        // its manifest
}

// Looked is what a name means at a registry.
type Looked struct {
	Name  string // whole
	Raw   []byte // the manifest, or the index
	Index bool
}

// lookPlaces is places, with a registry that may be insecure for once.
func lookPlaces(r reference.Reference, insecure bool) ([]hosts.Place, error) {
	files := hosts.System()
	if insecure {
		files.Insecure = append(files.Insecure, r.Domain)
	}
	return files.Find(r.Domain, r.Path, r.Digest != "")
}

// Look fetches what a name means, and hands over each image of it when images is not nil: the one, or those of the index.
func Look(ctx context.Context, what string, insecure bool, images func(Listed)) (l *Looked, err error) {
	r, err := reference.Parse(what)
	if err != nil {
		return nil, err
	}
	p, err := newPull(nil, r, &Options{})
	if err == nil {
		p.places, err = lookPlaces(r, insecure)
	}
	if err != nil {
		return nil, errs.Wrap("look up "+r.Familiar(), err)
	}
	var all []Listed
	err = p.each(ctx, func(p hosts.Place) bool { return p.Resolve }, func(c *client) error {
		d, err := c.document(ctx, identifier(r))
		if err != nil {
			return err
		}
		l, all = &Looked{r.String(), d.body, d.isIndex()}, nil
		if images == nil {
			return nil
		}
		if !d.isIndex() {
			one, err := c.listed(ctx, r.String(), d, nil)
			all = append(all, one)
			return err
		}
		for _, m := range d.Manifests {
			inner, err := c.document(ctx, string(m.Digest))
			if err != nil {
				return err
			}
			one, err := c.listed(ctx, r.String()+"@"+string(m.Digest), inner, m.Platform)
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return nil
	})
	if err != nil {
		return nil, explain("look up "+r.Familiar(), err)
	}
	for _, one := range all {
		images(one)
	}
	return l, nil
}

// listed describes an image; its platform, if nothing says it, is read of its configuration.
func (c *client) listed(ctx context.Context, ref string, d *document, platform *v1.Platform) (Listed, error) {
	l := Listed{Ref: ref, Raw: d.body, Descriptor: v1.Descriptor{MediaType: d.kind, Digest: d.digest, Size: int64(len(d.body)), Platform: platform}}
	if platform != nil || d.isIndex() {
		return l, nil
	}
	body, _, err := c.small(ctx, "blobs", string(d.Config.Digest), "", largestConfig)
	if err != nil {
		return l, errs.Wrap("read configuration", err)
	}
	if digest.FromBytes(body) != d.Config.Digest {
		return l, lie("its configuration has the digest %s, the manifest says %s", digest.FromBytes(body), d.Config.Digest)
	}
	l.Descriptor.Platform = &v1.Platform{}
	if err := json.Unmarshal(body, l.Descriptor.Platform); err != nil {
		return l, errs.New(errs.Invalid, "read configuration", err)
	}
	return l, nil
}

// List makes an index of images: Docker's kind, if all of them are, or else OCI's.
func List(images []Listed) (body []byte, mediaType string) {
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: dockerList, Manifests: []v1.Descriptor{}}
	for _, l := range images {
		index.Manifests = append(index.Manifests, l.Descriptor)
		if l.Descriptor.MediaType != dockerManifest {
			index.MediaType = v1.MediaTypeImageIndex
		}
	}
	body, _ = json.MarshalIndent(index, "", "   ") // these types are always JSON
	return body, index.MediaType
}

// PushList sends a list of images to where its name says. Images that are in other repositories of the registry are
// mounted into its own; each is told. It returns the digest of the list.
func PushList(ctx context.Context, target string, images []Listed, insecure bool, pushed func(ref, digest string)) (string, error) {
	r, err := reference.Parse(target)
	if err != nil {
		return "", err
	}
	what := "push " + r.Familiar()
	list, err := lookPlaces(r, insecure)
	if err != nil {
		return "", errs.Wrap(what, err)
	}
	to, err := pushPlace(list)
	if err != nil {
		return "", errs.Wrap(what, err)
	}
	repo, err := repositoryOf(to)
	if err != nil {
		return "", err
	}
	scopes, sources := []string{repo.Scope(transport.PushScope)}, make([]name.Digest, len(images))
	for i, l := range images {
		from, err := reference.Parse(l.Ref)
		if err != nil {
			return "", err
		}
		if from.Domain != r.Domain {
			return "", errs.Text(errs.Invalid, fmt.Sprintf("cannot use source images from a different registry than the target image: %s != %s", from.Domain, r.Domain))
		}
		sources[i] = repo.Registry.Repo(from.Path).Digest(string(l.Descriptor.Digest))
		scopes = append(scopes, sources[i].Scope(transport.PullScope))
	}
	c, err := connect(ctx, to, "", scopes...)
	if err != nil {
		return "", explain(what, err)
	}
	for i, l := range images {
		if sources[i].Context() != c.repo { // what is there needs nothing
			img, err := remote.Image(sources[i], c.options(ctx)...)
			if err == nil {
				err = remote.Write(c.repo.Digest(sources[i].DigestStr()), img, c.options(ctx)...)
			}
			if err != nil {
				return "", explain(what, err)
			}
		}
		pushed(c.repo.Digest(sources[i].DigestStr()).String(), string(l.Descriptor.Digest))
	}
	body, kind := List(images)
	if err := remote.Put(c.reference(identifier(r)), raw{body, kind}, c.options(ctx)...); err != nil {
		return "", explain(what, err)
	}
	return string(digest.FromBytes(body)), nil
}

// raw is a document as go-containerregistry takes it.
type raw struct {
	body []byte
	kind string
}

// RawManifest and MediaType are those of remote.Taggable.
func (r raw) RawManifest() ([]byte, error)        { return r.body, nil }
func (r raw) MediaType() (types.MediaType, error) { return types.MediaType(r.kind), nil }
