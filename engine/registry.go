//go:build linux

package engine

import (
	"context"
	"strings"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry"
	"github.com/berth-containers/berth/internal/errs"
)

// TransferOptions of [Engine.Pull] and [Engine.Push].
type (
	TransferOptions = registry.Options
	Progress        = registry.Progress
	Pushed          = registry.Pushed
)

// Pulled is what a pull brought.
type Pulled struct {
	Name, Digest, ID string
	New              bool // the name meant another image before, or none
}

// Pull fetches an image from where its name says.
func (e *Engine) Pull(ctx context.Context, name string, o TransferOptions) (*Pulled, error) {
	before := ""
	if img, err := e.images.Resolve(name); err == nil {
		before = img.ID
	}
	img, digest, err := registry.Pull(ctx, e.images, name, o)
	if err != nil {
		return nil, err
	}
	r, err := reference.Parse(name)
	if err != nil {
		return nil, err
	}
	e.tellImage("pull", r.String(), r.String())
	return &Pulled{Name: r.String(), Digest: digest, ID: img.ID, New: before != img.ID}, nil
}

// PullAll fetches every tag of a repository, one after the other, and hands over what each brought. The first that fails
// ends it.
func (e *Engine) PullAll(ctx context.Context, repository string, o TransferOptions, each func(*Pulled)) error {
	r, err := wholeRepository(repository)
	if err != nil {
		return err
	}
	tags, err := registry.Tags(ctx, repository)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		p, err := e.Pull(ctx, r.Name()+":"+tag, o)
		if err != nil {
			return err
		}
		each(p)
	}
	return nil
}

// PushAll sends every tag of a repository that is here.
func (e *Engine) PushAll(ctx context.Context, repository string, o TransferOptions, each func(name string, p *Pushed)) error {
	r, err := wholeRepository(repository)
	if err != nil {
		return err
	}
	list, err := e.images.List()
	if err != nil {
		return err
	}
	found := false
	for _, img := range list {
		for _, name := range img.Names {
			if have, err := reference.Parse(name); err != nil || have.Name() != r.Name() {
				continue
			}
			found = true
			p, err := e.Push(ctx, name, o)
			if err != nil {
				return err
			}
			each(name, p)
		}
	}
	if !found {
		return errs.Text(errs.NotFound, "An image does not exist locally with the tag: "+repository)
	}
	return nil
}

// wholeRepository refuses a name with a tag or digest.
func wholeRepository(name string) (reference.Reference, error) {
	r, err := reference.Parse(name)
	if err == nil && (r.Digest != "" || strings.Contains(name[strings.LastIndexByte(name, '/')+1:], ":")) {
		err = errs.Text(errs.Invalid, "tag can't be used with --all-tags/-a")
	}
	return r, err
}

// Push sends an image to where its name says.
func (e *Engine) Push(ctx context.Context, name string, o TransferOptions) (*Pushed, error) {
	if o.Platform != "" {
		img, err := e.images.Resolve(name)
		if err != nil {
			return nil, err
		}
		p, err := image.ParsePlatform(o.Platform)
		if err != nil {
			return nil, err
		}
		if !img.Fits(p) {
			return nil, errs.Text(errs.NotFound, "image "+name+" is for "+img.Platform()+", not for "+o.Platform)
		}
	}
	p, err := registry.Push(ctx, e.images, name, o)
	if err == nil {
		e.tellImage("push", name, name)
	}
	return p, err
}

// Login checks and keeps a user's password for a registry.
func (e *Engine) Login(ctx context.Context, host, user, password string) error {
	return registry.Login(ctx, host, user, password)
}

// Logout forgets it.
func (e *Engine) Logout(host string) error { return registry.Logout(host) }
