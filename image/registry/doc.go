// Package registry moves images between the store and registries (distribution-spec), with go-containerregistry's
// transport and authentication.
//
// A pull is one pass for each layer, several at once: download, check, decompress, unpack. What the store has already is
// not fetched. Nothing has a name before all of it is there, so a pull that fails or is killed leaves nothing that
// counts, and the next collection of garbage takes it away.
//
// Credentials are those of docker and podman: ~/.docker/config.json with its credential helpers, and auth.json. Own
// authorities lie in /etc/docker/certs.d/HOST and /etc/containers/certs.d/HOST. A registry is spoken to without TLS only
// if it is on this host, or listed as insecure in /etc/docker/daemon.json or BERTH_INSECURE_REGISTRIES.
package registry
