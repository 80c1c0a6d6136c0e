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

	helpers "github.com/docker/docker-credential-helpers/client"
	protocol "github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/image/registry/hosts"
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

// Login checks a user's password at a registry, and keeps it: with the credential helper that docker's configuration file
// names, or else in that file.
func Login(ctx context.Context, host, user, password string) error {
	if host == "" || host == "index.docker.io" {
		host = reference.DefaultDomain
	}
	list, err := hosts.System().Find(host, "any", true)
	if err != nil {
		return errs.Wrap("login to "+host, err)
	}
	place := list[len(list)-1] // the registry itself
	repo, err := repositoryOf(place)
	if err != nil {
		return err
	}
	auth := authn.FromConfig(authn.AuthConfig{Username: user, Password: password})
	t, err := handshake(ctx, repo.Registry, place, "", auth, []string{repo.Registry.Scope(transport.PullScope)})
	if err == nil {
		err = ping(ctx, t, repo.Registry)
	}
	if err != nil {
		return explain("login to "+host, err)
	}
	helper, err := helperFor(key(host))
	if err != nil {
		return err
	}
	if helper != nil {
		err = helpers.Store(helper, &protocol.Credentials{ServerURL: key(host), Username: user, Secret: password})
		return errs.Wrap("keep the password for "+host, err)
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
	helper, err := helperFor(key(host))
	if err != nil {
		return err
	}
	if helper != nil {
		return errs.Wrap("forget the password for "+key(host), helpers.Erase(helper, key(host)))
	}
	return change(func(auths map[string]any) { delete(auths, key(host)) })
}

// helperFor is the program that keeps the credentials for a registry, as docker's configuration file says; nil: the file
// itself does.
func helperFor(key string) (helpers.ProgramFunc, error) {
	file := configFile()
	var config struct {
		Helpers map[string]string `json:"credHelpers"`
		Store   string            `json:"credsStore"`
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &config)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "read "+file, err)
	}
	name := config.Helpers[key]
	if name == "" {
		name = config.Store
	}
	if name == "" {
		return nil, nil
	}
	return helpers.NewShellProgramFunc("docker-credential-" + name), nil
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
