//go:build linux

package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/version"
)

// configFolders are where authorities and keys for registries lie.
var configFolders = [...]string{"/etc/docker/certs.d", "/etc/containers/certs.d"}

// parse makes go-containerregistry's name of ours.
func parse(r reference.Reference) (name.Reference, error) {
	var options []name.Option
	if insecure(r.Domain) {
		options = append(options, name.Insecure)
	}
	text := r.String()
	if r.Tag != "" && r.Digest != "" { // the digest says all
		text = r.Name() + "@" + r.Digest
	}
	ref, err := name.ParseReference(text, options...)
	if err != nil {
		return nil, errs.New(errs.Invalid, "", err)
	}
	return ref, nil
}

// insecure reports whether a registry is listed as one without TLS, or with a certificate that nobody checks.
func insecure(host string) bool {
	list := strings.FieldsFunc(os.Getenv("BERTH_INSECURE_REGISTRIES"), func(r rune) bool { return r == ',' || r == ' ' })
	var daemon struct {
		Insecure []string `json:"insecure-registries"`
	}
	if b, err := os.ReadFile("/etc/docker/daemon.json"); err == nil && json.Unmarshal(b, &daemon) == nil {
		list = append(list, daemon.Insecure...)
	}
	return slices.Contains(list, host)
}

// options are those of all calls to a registry.
func options(ctx context.Context, host string, p *v1.Platform) ([]remote.Option, error) {
	t, err := transportFor(host)
	if err != nil {
		return nil, err
	}
	out := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain), remote.WithUserAgent("berth/" + version.String()), remote.WithTransport(t)}
	if p != nil {
		out = append(out, remote.WithPlatform(*p))
	}
	return out, nil
}

// transportFor trusts what was put into certs.d for a registry, besides the system's authorities.
func transportFor(host string) (http.RoundTripper, error) {
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure(host)}
	for _, folder := range configFolders {
		dir := filepath.Join(folder, host)
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			file := filepath.Join(dir, e.Name())
			switch filepath.Ext(file) {
			case ".crt":
				if err := trust(t.TLSClientConfig, file); err != nil {
					return nil, err
				}
			case ".cert":
				pair, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ".cert")+".key")
				if err != nil {
					return nil, errs.New(errs.Invalid, "load client certificate "+file, err)
				}
				t.TLSClientConfig.Certificates = append(t.TLSClientConfig.Certificates, pair)
			}
		}
	}
	return t, nil
}

func trust(c *tls.Config, file string) error {
	if c.RootCAs == nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		c.RootCAs = pool
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return errs.New(errs.Invalid, "trust "+file, err)
	}
	if !c.RootCAs.AppendCertsFromPEM(b) {
		return errs.New(errs.Invalid, "trust "+file, errors.New("there is no certificate in it"))
	}
	return nil
}

// explain gives an error of a registry its kind.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		if errors.Is(err, context.Canceled) {
			return errs.New(errs.Canceled, what, err)
		}
		if k := errs.KindOf(err); k != errs.Internal {
			return errs.Wrap(what, err)
		}
		return errs.New(errs.Unavailable, what, err)
	}
	switch answer.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return errs.New(errs.Permission, what, err).WithHint("berth login")
	case http.StatusNotFound:
		return errs.New(errs.NotFound, what, errors.New("manifest unknown: the registry has no such image"))
	}
	return errs.New(errs.Unavailable, what, err)
}
