//go:build linux

package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/berth-containers/berth/image/registry/hosts"
	"github.com/berth-containers/berth/internal/errs"
)

// route is the transport to one place: TLS as it is configured, and paths as they are there.
type route struct {
	next     http.RoundTripper
	registry string // as requests have it: HOST[:PORT]
	place    hosts.Place
	upstream string
}

func newRoute(registry string, p hosts.Place, upstream string) (*route, error) {
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true // lengths and digests are those of what is sent
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: p.Unverified}
	for _, file := range p.CAs {
		if err := trust(t.TLSClientConfig, file); err != nil {
			return nil, err
		}
	}
	for _, files := range p.Pairs {
		pair, err := tls.LoadX509KeyPair(files[0], files[1])
		if err != nil {
			return nil, errs.New(errs.Invalid, "load client certificate "+files[0], err)
		}
		t.TLSClientConfig.Certificates = append(t.TLSClientConfig.Certificates, pair)
	}
	return &route{t, registry, p, upstream}, nil
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

// RoundTrip is http.RoundTripper's. Nothing is sent without TLS that was not allowed to be, also where a redirection
// leads to; go-containerregistry would try that with addresses of private networks.
func (r *route) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !r.place.Plain {
		return nil, errs.Text(errs.Invalid, "refusing to speak to "+req.URL.Host+" without TLS").WithHint("list it in BERTH_INSECURE_REGISTRIES, if that is meant")
	}
	rest, ours := strings.CutPrefix(req.URL.Path, "/v2/")
	if req.URL.Host != r.registry || !ours {
		return r.next.RoundTrip(req)
	}
	req = req.Clone(req.Context())
	req.URL.Path = r.place.Path + "/" + rest
	for key, values := range r.place.Header {
		req.Header[key] = values
	}
	if r.upstream != "" { // as containerd tells mirrors that have several registries
		query := req.URL.Query()
		query.Set("ns", r.upstream)
		req.URL.RawQuery = query.Encode()
	}
	resp, err := r.next.RoundTrip(req)
	if err == nil && rest == "" && r.place.Path != "/v2" && resp.StatusCode == http.StatusNotFound {
		resp.StatusCode = http.StatusOK // a mirror with paths of its own need not have this one
	}
	return resp, err
}
