//go:build linux

package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
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

// client speaks to one registry about one repository.
type client struct {
	patience
	repo      name.Repository
	transport *transport.Wrapper // authenticates
}

// connect shakes hands with the registry of a repository. more are scopes beside that of reading it.
func connect(ctx context.Context, repo name.Repository, more ...string) (*client, error) {
	t, err := transportFor(repo.RegistryStr())
	if err != nil {
		return nil, err
	}
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, repo)
	if err != nil {
		return nil, errs.New(errs.Invalid, "read credentials", err)
	}
	agent := transport.NewUserAgent(&patient{usual, t}, "berth/"+version.String())
	authenticated, err := transport.NewWithContext(ctx, repo.Registry, auth, agent, append([]string{repo.Scope(transport.PullScope)}, more...))
	if err != nil {
		return nil, err
	}
	return &client{usual, repo, authenticated.(*transport.Wrapper)}, nil
}

// get asks for something of the repository: its manifests or blobs.
func (c *client) get(ctx context.Context, kind, id string, header http.Header) (*http.Response, error) {
	url := c.repo.Scheme() + "://" + c.repo.RegistryStr() + "/v2/" + c.repo.RepositoryStr() + "/" + kind + "/" + id
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	return (&http.Client{Transport: c.transport}).Do(req)
}

// options let go-containerregistry speak as this client does.
func (c *client) options(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithTransport(c.transport)}
}

// small reads an answer whole, of at most max bytes, and begins anew when the connection breaks.
func (c *client) small(ctx context.Context, kind, id, accept string, max int64) (body []byte, contentType string, err error) {
	for n := 1; ; n++ {
		body, contentType, err = c.smallOnce(ctx, kind, id, accept, max)
		if !passing(err) || n == c.tries || ctx.Err() != nil {
			return body, contentType, err
		}
		if err := c.wait(ctx, n, 0); err != nil {
			return nil, "", err
		}
	}
}

func (c *client) smallOnce(ctx context.Context, kind, id, accept string, max int64) ([]byte, string, error) {
	header := http.Header{}
	if accept != "" {
		header.Set("Accept", accept)
	}
	resp, err := c.get(ctx, kind, id, header)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, max+1))
	if err == nil && int64(len(b)) > max {
		err = lie("it has more than %d bytes", max)
	}
	return b, resp.Header.Get("Content-Type"), err
}

// transportFor trusts what was put into certs.d for a registry, besides the system's authorities.
func transportFor(host string) (http.RoundTripper, error) {
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true // lengths and digests are those of what is sent
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
		if strings.Contains(answer.Request.URL.Path, "/manifests/") {
			err = errors.New("manifest unknown: the registry has no such image")
		}
		return errs.New(errs.NotFound, what, err)
	}
	return errs.New(errs.Unavailable, what, err)
}
