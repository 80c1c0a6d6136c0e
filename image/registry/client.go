//go:build linux

package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry/hosts"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/version"
)

// client speaks to one registry, or a mirror of it, about one repository.
type client struct {
	patience
	repo      name.Repository
	transport *transport.Wrapper // authenticates
}

// places lists where a repository can be asked for.
func places(r reference.Reference) ([]hosts.Place, error) {
	return hosts.System().Find(r.Domain, r.Path, r.Digest != "")
}

// identifier is what a registry calls an image: its digest, if that is known, or its tag.
func identifier(r reference.Reference) string {
	if r.Digest != "" {
		return r.Digest
	}
	return r.Tag
}

// repositoryOf is go-containerregistry's name of a place.
func repositoryOf(p hosts.Place) (name.Repository, error) {
	var options []name.Option
	if p.Plain {
		options = append(options, name.Insecure)
	}
	registry, err := name.NewRegistry(p.Host, options...)
	if err != nil {
		return name.Repository{}, errs.New(errs.Invalid, "", err)
	}
	return registry.Repo(p.Repository), nil
}

// connect shakes hands with a place. upstream is the registry whose mirror it is, if it is one; more are scopes beside
// that of reading the repository.
func connect(ctx context.Context, p hosts.Place, upstream string, more ...string) (*client, error) {
	repo, err := repositoryOf(p)
	if err != nil {
		return nil, err
	}
	auth, err := credentials(ctx, repo)
	if err != nil {
		return nil, err
	}
	t, err := handshake(ctx, repo.Registry, p, upstream, auth, append([]string{repo.Scope(transport.PullScope)}, more...))
	if err != nil {
		return nil, err
	}
	return &client{usual, repo, t}, nil
}

func handshake(ctx context.Context, registry name.Registry, p hosts.Place, upstream string, auth authn.Authenticator, scopes []string) (*transport.Wrapper, error) {
	t, err := newRoute(registry.RegistryStr(), p, upstream)
	if err != nil {
		return nil, err
	}
	agent := transport.NewUserAgent(&patient{usual, t}, "berth/"+version.String())
	authenticated, err := transport.NewWithContext(ctx, registry, auth, agent, scopes)
	if err != nil {
		return nil, err
	}
	return authenticated.(*transport.Wrapper), nil
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
	case http.StatusUnauthorized:
		return errs.New(errs.Permission, what, errors.New("unauthorized: authentication required")).WithHint("berth login")
	case http.StatusForbidden:
		return errs.New(errs.Permission, what, err).WithHint("berth login")
	case http.StatusNotFound:
		if strings.Contains(answer.Request.URL.Path, "/manifests/") {
			err = errors.New("manifest unknown: the registry has no such image")
		}
		return errs.New(errs.NotFound, what, err)
	}
	return errs.New(errs.Unavailable, what, err)
}
