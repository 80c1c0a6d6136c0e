//go:build linux

package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/berth-containers/berth/internal/errs"
)

// credentials finds what to show to a registry: what docker's configuration file has of it, or else podman's.
func credentials(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, target)
	if err == nil && auth == authn.Anonymous {
		auth, err = podmanCredentials(target)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "read credentials", err)
	}
	return auth, nil
}

// podmanCredentials looks into the first auth.json there is, for a repository, the folders it is in, and the registry
// (containers-auth.json(5)).
func podmanCredentials(target authn.Resource) (authn.Authenticator, error) {
	for _, file := range podmanFiles() {
		f, err := os.Open(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		config := configfile.New(file)
		err = config.LoadFromReader(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return lookUp(config, strings.Replace(target.String(), "index.docker.io", "docker.io", 1))
	}
	return authn.Anonymous, nil
}

// lookUp finds the longest name that there are credentials for.
func lookUp(config *configfile.ConfigFile, name string) (authn.Authenticator, error) {
	for {
		found, err := config.GetCredentialsStore(name).Get(name)
		if err != nil {
			return nil, err
		}
		if found.ServerAddress = ""; found != (types.AuthConfig{}) {
			return authn.FromConfig(authn.AuthConfig{Username: found.Username, Password: found.Password, Auth: found.Auth,
				IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken}), nil
		}
		slash := strings.LastIndexByte(name, '/')
		if slash < 0 {
			return authn.Anonymous, nil
		}
		name = name[:slash]
	}
}

func podmanFiles() []string {
	if file := os.Getenv("REGISTRY_AUTH_FILE"); file != "" {
		return []string{file}
	}
	runtime, config := os.Getenv("XDG_RUNTIME_DIR"), os.Getenv("XDG_CONFIG_HOME")
	if runtime != "" {
		runtime = filepath.Join(runtime, "containers")
	} else {
		runtime = fmt.Sprintf("/run/containers/%d", os.Geteuid())
	}
	if config == "" {
		config = filepath.Join(os.Getenv("HOME"), ".config")
	}
	return []string{filepath.Join(runtime, "auth.json"), filepath.Join(config, "containers/auth.json")}
}
