//go:build linux

package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
)

// Docker's registry has this name in configuration files.
const dockerHub = "https://index.docker.io/v1/"

func configFile() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	return filepath.Join(os.Getenv("HOME"), ".docker", "config.json")
}

func key(host string) string {
	if host == "" || host == "docker.io" || host == "index.docker.io" {
		return dockerHub
	}
	return host
}

// Login checks a user's password at a registry, and keeps it in docker's configuration file.
func Login(ctx context.Context, host, user, password string) error {
	var options []name.Option
	if insecure(host) {
		options = append(options, name.Insecure)
	}
	if host == "docker.io" || host == "" {
		host = name.DefaultRegistry
	}
	r, err := name.NewRegistry(host, options...)
	if err != nil {
		return errs.New(errs.Invalid, "", err)
	}
	t, err := transportFor(host)
	if err != nil {
		return err
	}
	auth := authn.FromConfig(authn.AuthConfig{Username: user, Password: password})
	tr, err := transport.NewWithContext(ctx, r, auth, t, []string{r.Scope(transport.PullScope)})
	if err == nil {
		err = ping(ctx, tr, r)
	}
	if err != nil {
		return explain("login to "+host, err)
	}
	return change(func(auths map[string]any) {
		auths[key(host)] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
	})
}

func ping(ctx context.Context, t http.RoundTripper, r name.Registry) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.Scheme()+"://"+r.RegistryStr()+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return transport.CheckError(resp, http.StatusOK)
}

// Logout forgets the credentials for a registry.
func Logout(host string) error {
	return change(func(auths map[string]any) { delete(auths, key(host)) })
}

// change changes the credentials in the configuration file, and keeps all else in it.
func change(edit func(auths map[string]any)) error {
	file := configFile()
	config := map[string]any{}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &config)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap("read "+file, err)
	}
	auths, ok := config["auths"].(map[string]any)
	if !ok {
		auths = map[string]any{}
	}
	edit(auths)
	config["auths"] = auths
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return errs.Wrap("write "+file, err)
	}
	return errs.Wrap("write "+file, atomicfile.WriteJSON(file, config, atomicfile.Durable))
}
