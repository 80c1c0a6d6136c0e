//go:build linux

package registry

import (
	"context"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/berth-containers/berth/image/reference"
)

// Tags lists the tags of a repository (distribution specification, "Listing Tags"), page after page.
func Tags(ctx context.Context, repository string) ([]string, error) {
	r, err := reference.Parse(repository)
	if err != nil {
		return nil, err
	}
	ref, err := parse(r)
	if err != nil {
		return nil, err
	}
	var tags []string
	c, err := connect(ctx, ref.Context())
	if err == nil {
		tags, err = remote.List(ref.Context(), c.options(ctx)...)
	}
	return tags, explain("list tags of "+r.Name(), err)
}

// Digest asks what a name means at its registry now, and fetches nothing.
func Digest(ctx context.Context, what string) (string, error) {
	r, err := reference.Parse(what)
	if err != nil {
		return "", err
	}
	ref, err := parse(r)
	if err != nil {
		return "", err
	}
	d := ""
	c, err := connect(ctx, ref.Context())
	if err == nil {
		d, err = head(ref, c.options(ctx))
	}
	return d, explain("look up "+r.Familiar(), err)
}

// head asks by HEAD, and by GET where a registry does not answer that.
func head(ref name.Reference, opts []remote.Option) (string, error) {
	if d, err := remote.Head(ref, opts...); err == nil {
		return d.Digest.String(), nil
	}
	d, err := remote.Get(ref, opts...)
	if err != nil {
		return "", err
	}
	return d.Digest.String(), nil
}
