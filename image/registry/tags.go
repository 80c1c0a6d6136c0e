//go:build linux

package registry

import (
	"context"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry/hosts"
	"github.com/berth-containers/berth/internal/errs"
)

// ask asks the places that know what tags mean, one after the other.
func ask(ctx context.Context, r reference.Reference, what string, question func(*client) error) error {
	p, err := newPull(nil, r, &Options{})
	if err != nil {
		return errs.Wrap(what, err)
	}
	return explain(what, p.each(ctx, func(p hosts.Place) bool { return p.Resolve }, question))
}

// Tags lists the tags of a repository (distribution specification, "Listing Tags"), page after page.
func Tags(ctx context.Context, repository string) (tags []string, err error) {
	r, err := reference.Parse(repository)
	if err != nil {
		return nil, err
	}
	err = ask(ctx, r, "list tags of "+r.Name(), func(c *client) error {
		tags, err = remote.List(c.repo, c.options(ctx)...)
		return err
	})
	return tags, err
}

// Digest asks what a name means at its registry now, and fetches nothing.
func Digest(ctx context.Context, what string) (d string, err error) {
	r, err := reference.Parse(what)
	if err != nil {
		return "", err
	}
	err = ask(ctx, r, "look up "+r.Familiar(), func(c *client) error {
		d, err = c.head(ctx, identifier(r))
		return err
	})
	return d, err
}

// head asks by HEAD, and by GET where a registry does not answer that.
func (c *client) head(ctx context.Context, id string) (string, error) {
	if d, err := remote.Head(c.reference(id), c.options(ctx)...); err == nil {
		return d.Digest.String(), nil
	}
	d, err := remote.Get(c.reference(id), c.options(ctx)...)
	if err != nil {
		return "", err
	}
	return d.Digest.String(), nil
}

// reference is go-containerregistry's name of a manifest of the repository.
func (c *client) reference(id string) name.Reference {
	if strings.HasPrefix(id, "sha256:") {
		return c.repo.Digest(id)
	}
	return c.repo.Tag(id)
}
