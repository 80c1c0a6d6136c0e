//go:build linux

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry/hosts"
	"github.com/berth-containers/berth/internal/errs"
)

// Hit is a repository that a search found.
type Hit struct {
	Name        string `json:"name"` // as a pull takes it
	Description string `json:"description"`
	Stars       int    `json:"star_count"`
	Official    bool   `json:"is_official"`
	Automated   bool   `json:"is_automated"`
}

const largestAnswer = 8 << 20

// Search finds repositories by a word: at Docker's registry, or at HOST in HOST/WORD. It asks as docker does (GET
// /v1/search); of a registry that cannot search, all names are fetched (GET /v2/_catalog) and those that have the word in
// them are meant.
func Search(ctx context.Context, term string, limit int) ([]Hit, error) {
	host, word, ok := strings.Cut(term, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, word = reference.DefaultDomain, strings.TrimPrefix(term, "library/")
	}
	what := "search " + term
	list, err := hosts.System().Find(host, "any", false)
	if err != nil {
		return nil, errs.Wrap(what, err)
	}
	place := list[len(list)-1] // the registry itself
	repo, err := repositoryOf(place)
	if err != nil {
		return nil, err
	}
	var t http.RoundTripper
	if host == reference.DefaultDomain { // its search asks for no token
		if t, err = newRoute(repo.RegistryStr(), place, ""); err == nil {
			t = &patient{usual, t}
		}
	} else {
		var auth authn.Authenticator
		if auth, err = credentials(ctx, repo.Registry); err == nil {
			t, err = handshake(ctx, repo.Registry, place, "", auth, []string{repo.Registry.Scope(transport.PullScope)})
		}
	}
	if err != nil {
		return nil, explain(what, err)
	}
	query := url.Values{"q": {word}, "n": {strconv.Itoa(limit)}}
	hits, err := searchV1(ctx, t, repo.Scheme()+"://"+repo.RegistryStr()+"/v1/search?"+query.Encode())
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		var names []string
		names, err = remote.Catalog(ctx, repo.Registry, remote.WithTransport(t), remote.WithContext(ctx))
		hits = matching(names, word)
	}
	if err != nil {
		return nil, explain(what, err)
	}
	if host != reference.DefaultDomain {
		for i := range hits {
			hits[i].Name = host + "/" + hits[i].Name
		}
	}
	return hits[:min(len(hits), limit)], nil
}

func searchV1(ctx context.Context, t http.RoundTripper, address string) ([]Hit, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, err
	}
	var out struct {
		Results []Hit `json:"results"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, largestAnswer)).Decode(&out); err != nil {
		return nil, errs.New(errs.Invalid, "read what was found", err)
	}
	return out.Results, nil
}

func matching(names []string, word string) (out []Hit) {
	for _, name := range names {
		if strings.Contains(name, word) {
			out = append(out, Hit{Name: name})
		}
	}
	slices.SortFunc(out, func(a, b Hit) int { return strings.Compare(a.Name, b.Name) })
	return out
}
