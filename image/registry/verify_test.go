//go:build linux

package registry

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/signature"
	"github.com/berth-containers/berth/internal/errs"
)

// pair makes a key, and writes its public half to a file.
func pair(t *testing.T, private crypto.Signer) (crypto.Signer, string) {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return private, file
}

// sign stores a signature as cosign does, under name, of a manifest.
func (o *origin) sign(repository string, of digest.Digest, key crypto.Signer, name string, edit func(statement []byte) []byte) {
	o.t.Helper()
	statement := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, name, of)
	sum := sha256.Sum256(statement)
	text, hash := sum[:], crypto.Hash(crypto.SHA256)
	if _, whole := key.Public().(ed25519.PublicKey); whole {
		text, hash = statement, 0
	}
	sig, err := key.Sign(rand.Reader, text, hash)
	if err != nil {
		o.t.Fatal(err)
	}
	d := o.blob(repository, signature.MediaType, edit(statement))
	d.Annotations = map[string]string{signature.Annotation: base64.StdEncoding.EncodeToString(sig)}
	b, _ := json.Marshal(v1.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest, Layers: []v1.Descriptor{d},
		Config: o.blob(repository, v1.MediaTypeImageConfig, []byte("{}"))})
	o.put("/v2/"+repository+"/manifests/"+signature.Tag(of), v1.MediaTypeImageManifest, b)
}

func asIs(b []byte) []byte { return b }

// signing is an image of a registry that is pulled under conditions.
type signing struct {
	*origin
	name, repository string
	digest           digest.Digest
}

func newSigning(t *testing.T) *signing {
	t.Helper()
	hasten(t)
	s := &signing{origin: newOrigin(t, plain)}
	s.name = sampleImage(s.origin, 1, 100)
	s.repository = s.name[:strings.LastIndex(s.name, ":")]
	t.Setenv("BERTH_POLICY", filepath.Join(t.TempDir(), "policy.json"))
	s.policy(`{"default":[{"type":"insecureAcceptAnything"}]}`)
	_, d, err := Pull(context.Background(), image.Open(t.TempDir()), s.name, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.digest = digest.Digest(d)
	return s
}

func (s *signing) policy(text string) {
	s.t.Helper()
	if err := os.WriteFile(os.Getenv("BERTH_POLICY"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *signing) pull(key string) error {
	root := s.t.TempDir()
	_, _, err := Pull(context.Background(), image.Open(root), s.name, Options{VerifyKey: key})
	if blobs, _ := filepath.Glob(root + "/blobs/sha256/*"); err != nil && len(blobs) > 0 {
		s.t.Errorf("an image that was refused has left %v", blobs)
	}
	return err
}

func (s *signing) refused(err error, why string) {
	s.t.Helper()
	if !errs.Is(err, errs.Permission) || !strings.Contains(err.Error(), why) {
		s.t.Errorf("error %v, want %q", err, why)
	}
}

func newECDSA(t *testing.T) (crypto.Signer, string) {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair(t, ec)
}

func TestSignaturesAreVerified(t *testing.T) {
	s := newSigning(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ours, file := newECDSA(t)
	s.refused(s.pull(file), "it has no signature")
	for _, private := range []crypto.Signer{rs, ed, ours} {
		key, public := pair(t, private)
		s.sign("team/app", s.digest, key, s.repository, asIs)
		if err := s.pull(public); err != nil {
			t.Errorf("%T: %v", key, err)
		}
	}
	_, stranger := pair(t, ed)
	s.refused(s.pull(stranger), "it is signed by another key")
	s.sign("team/app", s.digest, ours, s.repository, func(b []byte) []byte { return append(b, '\n') })
	s.refused(s.pull(file), "its signature was changed")
	// The signature of another image, put in the place of this one's.
	other := digest.FromString("other")
	s.sign("team/app", other, ours, s.repository, asIs)
	resp, err := s.Client().Get(s.URL + "/v2/team/app/manifests/" + signature.Tag(other))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		t.Fatal(err)
	}
	s.put("/v2/team/app/manifests/"+signature.Tag(s.digest), v1.MediaTypeImageManifest, m)
	s.refused(s.pull(file), "the signature is that of another image")
}

func TestPolicyIsKept(t *testing.T) {
	s := newSigning(t)
	ours, file := newECDSA(t)
	_, stranger := newECDSA(t)
	s.sign("team/app", s.digest, ours, s.repository, asIs)
	rule := func(identity string) string {
		return fmt.Sprintf(`{"default":[{"type":"reject"}],"transports":{"docker":{%q:[{"type":"sigstoreSigned","keyPath":%q,"signedIdentity":%s}]}}}`, s.repository, file, identity)
	}
	s.policy(rule(`{"type":"matchRepository"}`))
	if err := s.pull(""); err != nil {
		t.Error(err)
	}
	s.refused(s.pull(stranger), "it is signed by another key")
	s.policy(rule(`{"type":"exactRepository","dockerRepository":"example.com/other"}`))
	s.refused(s.pull(""), "signed under the name")
	s.policy(rule(`null`)) // the tag must be signed, too
	s.refused(s.pull(""), "signed under the name")
	s.policy(strings.Replace(rule(`null`), "team/app", "team/other", 1))
	s.refused(s.pull(""), "nothing from there is taken")
	s.policy(strings.Replace(rule(`null`), "keyPath", "fulcio", 1))
	if err := s.pull(""); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "fulcio") {
		t.Errorf("a condition that is not known: %v", err)
	}
}
