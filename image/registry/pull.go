//go:build linux

package registry

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/content"
	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry/hosts"
	"github.com/berth-containers/berth/image/signature"
	"github.com/berth-containers/berth/internal/errs"
)

// Options of Pull and Push.
type Options struct {
	Platform string         // os/arch[/variant]; "" is this host's
	Progress func(Progress) // what becomes of each part; may be called by several at once; nil: nobody looks

	VerifyKey string // file of public keys, one of which must have signed what is pulled; "" asks the policy alone
	check     *signature.Check
}

// Progress is what becomes of a part of a transfer.
type Progress struct {
	Part  string // 12 digits of a layer's digest, or what the transfer as a whole is called
	State string // in Docker's words; "" when Part says all
	Done  int64  // bytes, in the states Downloading and Pushing
	Total int64
}

func (o *Options) tell(part, state string) { o.count(part, state, 0, 0) }

func (o *Options) count(part, state string, done, total int64) {
	if o.Progress != nil {
		o.Progress(Progress{part, state, done, total})
	}
}

const atOnce = 4 // layers that are downloaded at the same time

// pull is one that is under way.
type pull struct {
	s        *image.Store
	o        *Options
	upstream string        // the registry
	places   []hosts.Place // where to ask, in this order
	mu       sync.Mutex
	clients  map[int]*client // of places
	gone     map[int]bool    // places that cannot be spoken to
}

// Pull fetches an image and gives it its name. It returns the digest that the name means at the registry, too.
func Pull(ctx context.Context, s *image.Store, what string, o Options) (img *image.Image, d string, err error) {
	r, err := reference.Parse(what)
	if err != nil {
		return nil, "", err
	}
	if o.check, err = signature.For(r, o.VerifyKey); err != nil {
		return nil, "", err
	}
	platform := image.Host()
	if o.Platform != "" {
		if platform, err = image.ParsePlatform(o.Platform); err != nil {
			return nil, "", err
		}
	}
	p, err := newPull(s, r, &o)
	if err != nil {
		return nil, "", errs.Wrap("pull "+r.Familiar(), err)
	}
	f, err := p.find(ctx, r, platform)
	if err == nil {
		o.tell(identifier(r), "Pulling from "+r.Path)
		img, err = p.fetch(ctx, f)
	}
	if err != nil {
		return nil, "", explain("pull "+r.Familiar(), err)
	}
	return img, string(f.name), s.NamePulled(r, string(f.name), img)
}

func newPull(s *image.Store, r reference.Reference, o *Options) (*pull, error) {
	list, err := places(r)
	return &pull{s: s, o: o, upstream: r.Domain, places: list, clients: map[int]*client{}, gone: map[int]bool{}}, err
}

// client is that of a place, which is spoken to when it is needed. A mirror that cannot be is tried once: then it is nil.
func (p *pull) client(ctx context.Context, i int) (*client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients[i] == nil && !p.gone[i] {
		upstream := ""
		if p.places[i].Mirror {
			upstream = p.upstream
		}
		c, err := connect(ctx, p.places[i], upstream)
		if err != nil {
			p.gone[i] = i < len(p.places)-1
			return nil, err
		}
		p.clients[i] = c
	}
	return p.clients[i], nil
}

// each asks one place after the other until one serves. Those that may not be asked are left out.
func (p *pull) each(ctx context.Context, may func(hosts.Place) bool, ask func(*client) error) (err error) {
	err = errs.Text(errs.NotFound, "no place may be asked for it: see hosts.toml")
	for i, place := range p.places {
		if !may(place) {
			continue
		}
		c, cerr := p.client(ctx, i)
		if c == nil && cerr == nil {
			continue
		}
		if err = cerr; err == nil {
			err = ask(c)
		}
		if err == nil || ctx.Err() != nil || errs.Is(err, errs.NoSpace) {
			return err
		}
		if i < len(p.places)-1 {
			p.o.tell("mirror "+place.Host+" does not serve: "+err.Error(), "")
		}
	}
	return err
}

// find asks what a name means.
func (p *pull) find(ctx context.Context, r reference.Reference, platform v1.Platform) (f *found, err error) {
	err = p.each(ctx, func(place hosts.Place) bool { return place.Pull && (place.Resolve || r.Digest != "") }, func(c *client) error {
		if f, err = c.find(ctx, identifier(r), platform); err == nil {
			err = c.verify(ctx, p.o.check, f)
		}
		return err
	})
	return f, err
}

// fetch brings an image into the store. The first layer that fails ends the others.
func (p *pull) fetch(ctx context.Context, f *found) (*image.Image, error) {
	lock, err := p.s.Writing()
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	added := make([]image.Layer, len(f.diffIDs))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, d := range f.manifest.Layers {
		if d.Digest.Validate() == nil {
			p.o.tell(part(d), "Pulling fs layer")
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			got, err := p.layer(ctx, d, f.diffIDs[i])
			if err != nil {
				cancel(err)
				return
			}
			added[i] = *got
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return p.s.AddImage(f.manifest.body, f.config, added)
}

func part(d v1.Descriptor) string { return d.Digest.Encoded()[:12] }

// layer brings a layer into the store. Who else fetches it, in whatever process, is waited for.
func (p *pull) layer(ctx context.Context, d v1.Descriptor, diffID digest.Digest) (*image.Layer, error) {
	s, o := p.s, p.o
	if err := errors.Join(content.Check(d.Digest), content.Check(diffID)); err != nil {
		return nil, err
	}
	if strings.Contains(d.MediaType, ".foreign.") || strings.Contains(d.MediaType, ".nondistributable.") {
		return nil, errs.New(errs.Unsupported, "pull layer "+part(d), errors.New("it is a foreign layer, which registries do not hand out"))
	}
	blob, err := s.Blobs().Continue(ctx, d.Digest, func() { o.tell(part(d), "Waiting") })
	if err != nil {
		return nil, err
	}
	defer blob.Suspend()
	if have := present(s, d, diffID); have != nil {
		blob.Abort()
		o.tell(part(d), "Already exists")
		return have, nil
	}
	var added *image.Layer
	err = p.each(ctx, func(place hosts.Place) bool { return place.Pull }, func(c *client) (err error) {
		added, err = c.download(ctx, s, blob, d, diffID, o)
		return err
	})
	if err != nil {
		return nil, errs.Wrap("pull layer "+part(d), err)
	}
	if strings.HasPrefix(d.MediaType, "application/vnd.docker.") || strings.HasPrefix(d.MediaType, "application/vnd.oci.") {
		added.Type = d.MediaType // as its manifest says
	}
	o.tell(part(d), "Pull complete")
	return added, nil
}

// present finds a layer in the store; its tree, if only that is missing, is made again.
func present(s *image.Store, d v1.Descriptor, diffID digest.Digest) *image.Layer {
	if have, ok := s.LayerOf(diffID); ok && have.Blob == d.Digest {
		return have
	}
	f, err := s.Blobs().Open(d.Digest)
	if err != nil {
		return nil
	}
	defer f.Close()
	added, err := s.AddLayer(f, d.Digest, diffID)
	if err != nil {
		return nil // it is fetched anew
	}
	return added
}

// download fetches what is missing of a layer. What came is kept for the next pull, unless it is wrong.
func (c *client) download(ctx context.Context, s *image.Store, blob *content.Writer, d v1.Descriptor, diffID digest.Digest, o *Options) (*image.Layer, error) {
	for again := false; ; again = true {
		if err := blob.Rewind(d.Size); err != nil {
			return nil, err
		}
		in := &stream{ctx: ctx, from: c, blob: d, at: blob.Prior(), tell: func(at int64) { o.count(part(d), "Downloading", at, d.Size) }}
		in.rejoined = in.at > 0
		added, err := s.ContinueLayer(blob, in, d.Digest, diffID)
		in.Close()
		if err == nil {
			return added, nil
		}
		if in.broken() {
			return nil, in.ended
		}
		if in.ended != nil {
			err = in.ended
		}
		// Nothing of it can be used; also if parts that came at different times do not fit together, or the disk has
		// damaged the first one.
		if rerr := blob.Restart(); rerr != nil || again || !in.rejoined || !errs.Is(err, errs.Invalid) {
			return nil, err
		}
	}
}
