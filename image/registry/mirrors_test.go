//go:build linux

package registry

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/registry/hosts"
	"github.com/berth-containers/berth/internal/errs"
)

// configure writes what a user says of a registry.
func configure(t *testing.T, host, hostsToml string, files map[string][]byte) {
	t.Helper()
	config := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", config)
	dir := filepath.Join(config, "containers/certs.d", host)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	files["hosts.toml"] = []byte(hostsToml)
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Mirrors are asked in their order. One that is gone, or has other layers than it says, is passed over, and what it
// sent is not used.
func TestMirrors(t *testing.T) {
	hasten(t)
	o := newOrigin(t, plain)
	sampleImage(o, 1, 4<<10)
	gone := httptest.NewServer(nil)
	gone.Close()
	lying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorded := httptest.NewRecorder()
		o.Config.Handler.ServeHTTP(recorded, r)
		body := recorded.Body.Bytes()
		if strings.Contains(r.URL.Path, "/blobs/") && len(body) > 1000 {
			body[500] ^= 1
		}
		w.Header()["Content-Type"] = recorded.Header()["Content-Type"]
		w.WriteHeader(recorded.Code)
		_, _ = w.Write(body)
	}))
	defer lying.Close()
	var mu sync.Mutex
	asked := map[string]int{}
	honest := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[fmt.Sprint(strings.Split(strings.TrimPrefix(r.URL.Path, "/cache/team/app/"), "/")[0], " ", r.URL.Query().Get("ns"), " ", r.Header.Get("X-Who"))]++
		mu.Unlock()
		if !strings.HasPrefix(r.URL.Path, "/cache/team/") {
			w.WriteHeader(404)
			return
		}
		r.URL.Path = "/v2" + strings.TrimPrefix(r.URL.Path, "/cache")
		o.Config.Handler.ServeHTTP(w, r)
	}))
	defer honest.Close()
	configure(t, "quay.example", fmt.Sprintf(`
server = "%s"
[host.%q]
[host.%q]
[host.%q]
  capabilities = ["pull"]
  override_path = true
  ca = "ca.pem"
  header = {x-who = "me"}
`, gone.URL, gone.URL, lying.URL, honest.URL+"/cache"),
		map[string][]byte{"ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: honest.Certificate().Raw})})
	root := t.TempDir()
	var said []string
	img, _, err := Pull(context.Background(), image.Open(root), "quay.example/team/app:v1", Options{Progress: func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasPrefix(p.Part, "mirror ") {
			said = append(said, p.Part)
		}
	}})
	if err != nil || len(img.Layers) != 3 {
		t.Fatalf("pull: %v", err)
	}
	checkStore(t, root)
	if len(said) != 1+3 || !strings.Contains(said[0], "refused") { // the one that is gone, and three layers that are wrong
		t.Errorf("said: %q", said)
	}
	if asked["blobs quay.example me"] != 3 || asked["manifests quay.example me"] != 0 {
		t.Errorf("the honest mirror was asked for %v", asked)
	}
}

// A certificate that nobody knows is refused, and one without TLS is not spoken to, unless that was allowed.
func TestTrust(t *testing.T) {
	hasten(t)
	o := newOrigin(t, plain)
	sampleImage(o, 1, 100)
	server := httptest.NewTLSServer(o.Config.Handler)
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	pull := func() error {
		_, _, err := Pull(context.Background(), image.Open(t.TempDir()), host+"/team/app:v1", Options{})
		return err
	}
	if err := pull(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	configure(t, host, "", map[string][]byte{"own.crt": authority})
	if err := pull(); err != nil {
		t.Errorf("its authority is trusted: %v", err)
	}
	configure(t, host, "skip_verify = true", map[string][]byte{})
	if err := pull(); err != nil {
		t.Errorf("nobody is to check it: %v", err)
	}
	configure(t, host, "", map[string][]byte{"own.crt": []byte("nothing")})
	if err := pull(); !errs.Is(err, errs.Invalid) {
		t.Errorf("no authority: %v", err)
	}
	configure(t, host, "", map[string][]byte{})
	t.Setenv("BERTH_INSECURE_REGISTRIES", "127.0.0.0/8")
	if err := pull(); err != nil {
		t.Errorf("listed as insecure: %v", err)
	}
	r, err := newRoute("10.9.9.9:5000", hosts.Place{Host: "10.9.9.9:5000"}, "") // of a private network, and that is all
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest(http.MethodGet, "http://10.9.9.9:5000/v2/", nil)
	if _, err := r.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "without TLS") {
		t.Errorf("without TLS: %v", err)
	}
}

// A registry that can search is asked to.
func TestSearch(t *testing.T) {
	hasten(t)
	o := newOrigin(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/search" && r.URL.RawQuery == "n=2&q=a+b%2Fc" {
				_, _ = w.Write([]byte(`{"results":[{"name":"x/y","description":"what it is","star_count":7,"is_official":true},{"name":"z"},{"name":"more"}]}`))
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	got, err := Search(context.Background(), o.name("a b/c"), 2)
	want := []Hit{{o.name("x/y"), "what it is", 7, true, false}, {Name: o.name("z")}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}
