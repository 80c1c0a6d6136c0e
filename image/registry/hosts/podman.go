package hosts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/berth-containers/berth/internal/errs"
)

// registry is a table of registries.conf, version 2 (containers-registries.conf(5)).
type registry struct {
	Prefix   string   `toml:"prefix"`
	Location string   `toml:"location"`
	Insecure bool     `toml:"insecure"`
	Blocked  bool     `toml:"blocked"`
	ByDigest bool     `toml:"mirror-by-digest-only"`
	Mirrors  []mirror `toml:"mirror"`
	file     string
}

type mirror struct {
	Location string `toml:"location"`
	Insecure bool   `toml:"insecure"`
	From     string `toml:"pull-from-mirror"`
}

// podman lists the places that registries.conf names for a repository; nil, when it says nothing about it.
func (f Files) podman(domain, repository string, byDigest bool) ([]Place, error) {
	all, err := f.registries()
	if err != nil {
		return nil, err
	}
	name := domain + "/" + repository
	best, rest := registry{}, ""
	for _, r := range all {
		if tail, ok := r.matches(name); ok && len(r.Prefix) >= len(best.Prefix) {
			best, rest = r, tail
		}
	}
	if best.Prefix == "" {
		return nil, nil
	}
	if best.Blocked {
		return nil, errs.Text(errs.Permission, fmt.Sprintf("registry %s is blocked in %s", best.Prefix, best.file))
	}
	var out []Place
	for _, m := range best.Mirrors {
		if (best.ByDigest || m.From == "digest-only") && !byDigest || m.From == "tag-only" && byDigest {
			continue
		}
		p, err := at(best.file, m.Location, rest, m.Insecure)
		if err != nil {
			return nil, err
		}
		p.Mirror, p.Push = true, false
		out = append(out, p)
	}
	location := best.Location
	if location == "" { // of a prefix with *., which no location can have
		location = strings.TrimSuffix(name, rest)
	}
	p, err := at(best.file, location, rest, best.Insecure)
	return append(out, p), err
}

// matches reports whether a table is about a repository, and what of its name comes behind the prefix.
func (r *registry) matches(name string) (rest string, ok bool) {
	prefix := r.Prefix
	if suffix, wild := strings.CutPrefix(prefix, "*"); wild {
		host, _, _ := strings.Cut(name, "/")
		domain, _, _ := strings.Cut(suffix, "/")
		if !strings.HasSuffix(host, domain) || len(host) == len(domain) {
			return "", false
		}
		prefix = strings.TrimSuffix(host, domain) + suffix
	}
	rest, ok = strings.CutPrefix(name, prefix)
	return rest, ok && (rest == "" || rest[0] == '/')
}

// at is the place that a location, HOST[:PORT][/PATH], is with what comes behind it.
func at(file, location, rest string, insecure bool) (Place, error) {
	host, repository, _ := strings.Cut(location+rest, "/")
	if host == "" || repository == "" || strings.Contains(location, "://") {
		return Place{}, bad(file, fmt.Sprintf("location %q", location), errors.New("it is not HOST[:PORT][/PATH]"))
	}
	p := itself(host, repository)
	p.Plain, p.Unverified = insecure, insecure
	return p, nil
}

// registries reads the first file there is, and the files of folders; a table there replaces one of the same prefix.
func (f Files) registries() (out []registry, err error) {
	main := false
	for _, name := range f.Registries {
		files := []string{name}
		fi, err := os.Stat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return nil, bad(name, "", err)
		case fi.IsDir():
			if files, err = filepath.Glob(filepath.Join(name, "*.conf")); err != nil {
				return nil, bad(name, "", err)
			}
		case main:
			continue
		default:
			main = true
		}
		for _, file := range files {
			body, err := os.ReadFile(file)
			if err != nil {
				return nil, bad(file, "", err)
			}
			list, err := parseRegistries(file, body)
			if err != nil {
				return nil, err
			}
			out = append(out, list...)
		}
	}
	return out, nil
}

func parseRegistries(file string, body []byte) ([]registry, error) {
	var all struct {
		Registries any `toml:"registries"` // version 1
	}
	var v2 struct {
		Registry []registry `toml:"registry"`
	}
	if err := toml.Unmarshal(body, &all); err != nil {
		return nil, bad(file, "", err)
	}
	if all.Registries != nil {
		return nil, bad(file, "", errors.New("it has version 1 of the format, which nobody reads any more"))
	}
	if err := toml.Unmarshal(body, &v2); err != nil {
		return nil, bad(file, "", err)
	}
	for i := range v2.Registry {
		r := &v2.Registry[i]
		if r.file = file; r.Prefix == "" {
			r.Prefix = r.Location
		}
		r.Prefix = strings.TrimSuffix(r.Prefix, "/")
		wild := strings.HasPrefix(r.Prefix, "*.")
		if r.Prefix == "" || strings.Contains(strings.TrimPrefix(r.Prefix, "*."), "*") || r.Location == "" && !wild && !r.Blocked && len(r.Mirrors) == 0 {
			return nil, bad(file, fmt.Sprintf("registry %q", r.Prefix), errors.New("it needs a location, or a prefix such as *.example.com"))
		}
		if r.Location == "" && !wild {
			r.Location = r.Prefix
		}
		for _, m := range r.Mirrors {
			switch m.From {
			case "", "all", "digest-only", "tag-only":
			default:
				return nil, bad(file, "mirror "+m.Location, fmt.Errorf("pull-from-mirror is not %q", m.From))
			}
		}
	}
	return v2.Registry, nil
}
