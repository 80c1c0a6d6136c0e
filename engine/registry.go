//go:build linux

package engine

import (
	"context"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry"
)

// TransferOptions of [Engine.Pull] and [Engine.Push].
type TransferOptions = registry.Options

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

// Push sends an image to where its name says, and returns its digest there.
func (e *Engine) Push(ctx context.Context, name string, o TransferOptions) (string, error) {
	digest, err := registry.Push(ctx, e.images, name, o)
	if err == nil {
		e.tellImage("push", name, name)
	}
	return digest, err
}

// Login checks and keeps a user's password for a registry.
func (e *Engine) Login(ctx context.Context, host, user, password string) error {
	return registry.Login(ctx, host, user, password)
}

// Logout forgets it.
func (e *Engine) Logout(host string) error { return registry.Logout(host) }
