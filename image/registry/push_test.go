//go:build linux

package registry

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/image/registry/hosts"
)

// A token is fetched with the user's password, from where the registry says, and is shown to the registry alone: not to
// the place that it redirects to.
func TestToken(t *testing.T) {
	hasten(t)
	var mu sync.Mutex
	asked, strayed := []string{}, 0
	store := newOrigin(t, func(next http.Handler) http.Handler { // has the blobs, elsewhere
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if r.Header.Get("Authorization") != "" && strings.Contains(r.URL.Path, "/blobs/") {
				strayed++
			}
			next.ServeHTTP(w, r)
		})
	})
	name := sampleImage(store, 1, 1000)
	o := newOrigin(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user, password, _ := r.BasicAuth()
			switch {
			case r.URL.Path == "/token" && user == "anna" && password == "secret":
				mu.Lock()
				asked = append(asked, r.URL.Query().Get("scope"))
				mu.Unlock()
				fmt.Fprint(w, `{"token": "ticket"}`)
			case r.Header.Get("Authorization") != "Bearer ticket":
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="there"`, r.Host))
				w.WriteHeader(http.StatusUnauthorized)
			case strings.Contains(r.URL.Path, "/blobs/"):
				http.Redirect(w, r, store.URL+r.URL.Path, http.StatusTemporaryRedirect)
			default:
				store.Config.Handler.ServeHTTP(w, r)
			}
		})
	})
	name = strings.Replace(name, strings.TrimPrefix(store.URL, "http://"), strings.TrimPrefix(o.URL, "http://"), 1)
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home)
	if _, _, err := Pull(context.Background(), image.Open(t.TempDir()), name, Options{}); err == nil || !strings.Contains(err.Error(), "unauthorized") {
		t.Errorf("without a password: %v", err)
	}
	config := fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, strings.TrimPrefix(o.URL, "http://"), base64.StdEncoding.EncodeToString([]byte("anna:secret")))
	if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Pull(context.Background(), image.Open(t.TempDir()), name, Options{}); err != nil {
		t.Errorf("with a token: %v", err)
	}
	if len(asked) != 1 || asked[0] != "repository:team/app:pull" || strayed > 0 {
		t.Errorf("asked for %q, shown elsewhere %d times", asked, strayed)
	}
}

// A push goes on when a registry is busy or a connection breaks, whatever it sends.
func TestPushThroughFaults(t *testing.T) {
	hasten(t)
	for _, cut := range []bool{false, true} {
		var once map[string]*sync.Once // methods, the first request of which fails
		o := newOrigin(t, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				harm := false
				if first := once[r.Method]; first != nil {
					first.Do(func() { harm = true })
				}
				switch {
				case !harm:
					next.ServeHTTP(w, r)
				case cut:
					panic(http.ErrAbortHandler)
				default:
					_, _ = io.Copy(io.Discard, r.Body)
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			})
		})
		s, name, target := image.Open(t.TempDir()), sampleImage(o, 1, 100<<10), o.name("new/app:1")
		img, _, err := Pull(context.Background(), s, name, Options{})
		if err == nil {
			err = s.Tag(name, target)
		}
		if err != nil {
			t.Fatal(err)
		}
		once = map[string]*sync.Once{"GET": {}, "HEAD": {}, "POST": {}, "PATCH": {}, "PUT": {}}
		if p, err := Push(context.Background(), s, target, Options{}); err != nil || p.Digest != img.Manifest {
			t.Errorf("cut %v: %+v, %v", cut, p, err)
		}
		if got, _, err := Pull(context.Background(), image.Open(t.TempDir()), target, Options{}); err != nil || got.ID != img.ID {
			t.Errorf("what was pushed: %v", err)
		}
	}
}

// Credentials of podman are found by the longest name, also when docker has a file that says nothing of the registry.
func TestPodmanCredentials(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("DOCKER_CONFIG", home)
	t.Setenv("REGISTRY_AUTH_FILE", "")
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(home, "run"))
	auth := func(name string) string { return base64.StdEncoding.EncodeToString([]byte(name + ":x")) }
	for file, text := range map[string]string{
		"config.json":                  fmt.Sprintf(`{"auths": {"both.example": {"auth": %q}}}`, auth("docker")),
		".docker/config.json":          "{}",
		".config/containers/auth.json": `{"auths": {"late.example": {"auth": "eDp4"}}}`,
		"run/containers/auth.json": fmt.Sprintf(`{"auths": {"both.example": {"auth": %q}, "quay.example": {"auth": %q}, "quay.example/team": {"auth": %q}, "docker.io": {"auth": %q}}}`,
			auth("podman"), auth("all"), auth("team"), auth("hub")),
	} {
		file = filepath.Join(home, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for place, want := range map[string]string{"both.example/a": "docker", "quay.example/team/app": "team", "quay.example/teams/app": "all",
		"quay.example/app": "all", "docker.io/library/app": "hub", "late.example/app": "", "none.example/app": ""} {
		host, path, _ := strings.Cut(place, "/")
		repo, err := repositoryOf(hosts.Place{Host: host, Repository: path})
		if err != nil {
			t.Fatal(err)
		}
		found, err := credentials(context.Background(), repo)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := found.Authorization(); err != nil || got.Username != want {
			t.Errorf("%s: %q, %v, want %q", place, got.Username, err, want)
		}
	}
}
