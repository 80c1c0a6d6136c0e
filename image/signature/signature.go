// Package signature decides whether an image of a registry may be taken: by a key that the user names, and by the policy
// of the host. Signatures are those of cosign (its "simple signing" with keys, not its certificates and logs): a
// statement in JSON that names the digest of a manifest, signed, stored beside the image under the tag
// sha256-<hex>.sig (github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md).
package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/errs"
)

// Where a signature's statement and signature are in a manifest.
const (
	MediaType  = "application/vnd.dev.cosign.simplesigning.v1+json" // of the layer that is the statement
	Annotation = "dev.cosignproject.cosign/signature"               // of it: the signature, in base64
)

// Tag is the tag of the signatures of a manifest.
func Tag(d digest.Digest) string { return "sha256-" + d.Encoded() + ".sig" }

// Signature is one signature of an image, as it came.
type Signature struct {
	Statement []byte
	Signature string // base64
}

// statement is what is signed.
type statement struct {
	Critical struct {
		Type  string `json:"type"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
	} `json:"critical"`
}

const statementType = "cosign container image signature"

// key is a public key.
type key struct{ crypto.PublicKey }

// readKeys reads the public keys of a file in PEM.
func readKeys(file string) ([]key, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, errs.New(errs.Invalid, "read key", err)
	}
	keys, err := parseKeys(b)
	if err != nil {
		return nil, errs.New(errs.Invalid, "read key "+file, err)
	}
	return keys, nil
}

func parseKeys(b []byte) (keys []key, err error) {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("it has a %s, not a PUBLIC KEY", block.Type)
		}
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		switch public.(type) {
		case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
		default:
			return nil, fmt.Errorf("keys of the type %T sign no images", public)
		}
		keys = append(keys, key{public})
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no PUBLIC KEY in PEM in it")
	}
	return keys, nil
}

// signed reports whether a signature is this key's.
func (k key) signed(text, sig []byte) bool {
	sum := sha256.Sum256(text)
	switch public := k.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, sum[:], sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(public, text, sig)
	}
	return false
}

// requirement is one condition that an image must meet.
type requirement struct {
	by     string // what demands it: the key's file, or the policy's
	refuse string // why no image is taken; "" is none
	keys   []key  // one of these must have signed; nil: no signature is needed
	name   *identity
}

// Check is all that is demanded of an image.
type Check struct {
	image reference.Reference
	all   []requirement
}

// For finds what is demanded of an image: to be signed by a key of a file, if that is not "", and what the host's policy
// says.
func For(r reference.Reference, keyFile string) (*Check, error) {
	all, err := policyFor(r)
	if err != nil {
		return nil, err
	}
	if keyFile != "" {
		keys, err := readKeys(keyFile)
		if err != nil {
			return nil, err
		}
		all = append(all, requirement{by: keyFile, keys: keys})
	}
	return &Check{r, all}, nil
}

// Verify refuses an image that does not meet what is demanded. digests are those of its manifest, and of the index that
// has it: who signs one has signed the image. find fetches the signatures of a digest; it is called only if some are
// needed.
func (c *Check) Verify(digests []digest.Digest, find func(digest.Digest) ([]Signature, error)) error {
	have := map[digest.Digest][]Signature{}
	for _, r := range c.all {
		if r.refuse != "" {
			return errs.Text(errs.Permission, r.by+" refuses it: "+r.refuse)
		}
		if r.keys == nil {
			continue
		}
		why := errors.New("it has no signature")
		for _, d := range digests {
			if _, known := have[d]; !known {
				list, err := find(d)
				if err != nil {
					return errs.Wrap("read signatures", err)
				}
				have[d] = list
			}
			for _, s := range have[d] {
				if why = r.meets(&s, d, c.image); why == nil {
					break
				}
			}
			if why == nil {
				break
			}
		}
		if why != nil {
			return errs.Text(errs.Permission, r.by+" refuses it: "+why.Error())
		}
	}
	return nil
}

// meets checks one signature.
func (r *requirement) meets(s *Signature, d digest.Digest, image reference.Reference) error {
	sig, err := base64.StdEncoding.DecodeString(s.Signature)
	if err != nil {
		return errors.New("its signature is no base64")
	}
	ours := false
	for _, k := range r.keys {
		ours = ours || k.signed(s.Statement, sig)
	}
	if !ours {
		return errors.New("it is signed by another key, or its signature was changed")
	}
	var st statement
	switch err := json.Unmarshal(s.Statement, &st); {
	case err != nil || st.Critical.Type != statementType:
		return errors.New("what is signed is no statement about an image")
	case st.Critical.Image.Digest != string(d):
		return errors.New("the signature is that of another image, " + st.Critical.Image.Digest)
	case r.name != nil && !r.name.matches(image, st.Critical.Identity.Reference):
		return fmt.Errorf("it is signed under the name %q", st.Critical.Identity.Reference)
	}
	return nil
}
