//go:build linux

package registry

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/opencontainers/go-digest"

	"github.com/berth-containers/berth/image/signature"
)

const (
	mostSignatures   = 100     // of one manifest
	largestStatement = 1 << 20 // what is signed, in bytes
)

// signatures fetches what is signed about a manifest. None is no error.
func (c *client) signatures(ctx context.Context, of digest.Digest) ([]signature.Signature, error) {
	d, err := c.document(ctx, signature.Tag(of))
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(d.Layers) > mostSignatures {
		return nil, lie("it has %d signatures, at most %d are read", len(d.Layers), mostSignatures)
	}
	var out []signature.Signature
	for _, l := range d.Layers {
		if l.MediaType != signature.MediaType || l.Annotations[signature.Annotation] == "" {
			continue
		}
		b, _, err := c.small(ctx, "blobs", string(l.Digest), "", largestStatement)
		if err != nil {
			return nil, err
		}
		if digest.FromBytes(b) != l.Digest {
			return nil, lie("the signature %s has another digest", l.Digest)
		}
		out = append(out, signature.Signature{Statement: b, Signature: l.Annotations[signature.Annotation]})
	}
	return out, nil
}

// verify refuses an image that is not signed as it must be.
func (c *client) verify(ctx context.Context, check *signature.Check, f *found) error {
	return check.Verify([]digest.Digest{f.name, f.manifest.digest}, func(d digest.Digest) ([]signature.Signature, error) {
		return c.signatures(ctx, d)
	})
}
