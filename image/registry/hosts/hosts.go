// Package hosts finds the places at which the images of a registry are asked for: the registry itself and its mirrors, in
// their order. It reads what other engines have their users write:
//
//	certs.d/HOST/hosts.toml    containerd: for one registry, or for all others (_default)              toml.go
//	registries.conf, version 2 podman: mirrors, other locations, blocked and insecure registries       podman.go
//	daemon.json                docker: registry-mirrors (of docker.io only), insecure-registries       docker.go
//	certs.d/HOST/*.crt …       docker and podman: authorities, and client certificates with their keys docker.go
//
// The first of the first three that says something about a registry is what counts; only what registries.conf blocks is
// blocked in any case. Bare names are Docker's: unqualified-search-registries and aliases have no meaning here, so that a
// name never depends on the host.
package hosts

import (
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
)

// Place is where the images of a repository can be asked for.
type Place struct {
	Host       string      // HOST[:PORT]
	Path       string      // what comes before a repository in a URL; "/v2" but for mirrors that have their own
	Repository string      // its name there
	Plain      bool        // it may be spoken to without TLS
	Unverified bool        // nobody checks its certificate
	CAs        []string    // files with authorities to trust beside the system's
	Pairs      [][2]string // files of client certificates and their keys
	Header     http.Header // for each request
	Pull       bool        // it may be asked for blobs
	Resolve    bool        // it may be asked what a tag means
	Push       bool
	Mirror     bool // of another registry
}

// Files are what a system has said about registries. A file or folder that is not there says nothing.
type Files struct {
	Certs      []string // folders certs.d; the first that has something counts
	Registries []string // files registries.conf, and folders of files that are added; the first file counts
	Daemon     string   // docker's daemon.json
	Insecure   []string // hosts, and ranges of addresses, that are spoken to without TLS or with a certificate that nobody checks
}

// System are the files of this host and user: those of the user come before those of the system. CONTAINERS_REGISTRIES_CONF
// is a registries.conf that stands alone, BERTH_INSECURE_REGISTRIES a list of hosts and ranges.
func System() Files {
	config := os.Getenv("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(os.Getenv("HOME"), ".config")
	}
	f := Files{
		Certs: []string{filepath.Join(config, "containers/certs.d"), filepath.Join(config, "docker/certs.d"),
			"/etc/containerd/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"},
		Registries: []string{filepath.Join(config, "containers/registries.conf"), "/etc/containers/registries.conf",
			"/etc/containers/registries.conf.d", filepath.Join(config, "containers/registries.conf.d")},
		Daemon:   "/etc/docker/daemon.json",
		Insecure: strings.FieldsFunc(os.Getenv("BERTH_INSECURE_REGISTRIES"), func(r rune) bool { return r == ',' || r == ' ' }),
	}
	if alone := os.Getenv("CONTAINERS_REGISTRIES_CONF"); alone != "" {
		f.Registries = []string{alone}
	}
	return f
}

// Find lists the places of a repository of a registry, in the order in which they are to be asked. The last one is the
// registry itself, or what stands in for it. byDigest is whether a digest is asked for, not a tag.
func (f Files) Find(domain, repository string, byDigest bool) ([]Place, error) {
	podman, err := f.podman(domain, repository, byDigest)
	if err != nil {
		return nil, err
	}
	places, err := f.containerd(domain, repository)
	if err != nil {
		return nil, err
	}
	if places == nil {
		places = podman
	}
	daemon, err := f.docker()
	if err != nil {
		return nil, err
	}
	if places == nil && domain == "docker.io" {
		if places, err = daemon.mirrors(repository); err != nil {
			return nil, err
		}
	}
	if len(places) == 0 || places[len(places)-1].Mirror {
		places = append(places, itself(domain, repository))
	}
	for i := range places {
		p := &places[i]
		if loopback(p.Host) {
			p.Plain = true
		}
		if listed(p.Host, f.Insecure) || listed(p.Host, daemon.Insecure) {
			p.Plain, p.Unverified = true, true
		}
		if err := f.certificates(p); err != nil {
			return nil, err
		}
	}
	return places, nil
}

// itself is a registry that nothing was said about.
func itself(domain, repository string) Place {
	return Place{Host: domain, Path: "/v2", Repository: repository, Pull: true, Resolve: true, Push: true}
}

// loopback reports whether a registry is on this host: then nobody listens in between.
func loopback(host string) bool {
	name := bare(host)
	addr, err := netip.ParseAddr(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && addr.IsLoopback()
}

// bare is a host without its port.
func bare(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// listed reports whether a host is in a list of hosts and ranges of addresses.
func listed(host string, list []string) bool {
	addr, err := netip.ParseAddr(bare(host))
	return slices.ContainsFunc(list, func(entry string) bool {
		if r, rerr := netip.ParsePrefix(entry); rerr == nil {
			return err == nil && r.Contains(addr)
		}
		return entry == host
	})
}

func bad(file, what string, err error) error {
	return errs.New(errs.Invalid, "read "+file, errs.New(errs.Invalid, what, err))
}
