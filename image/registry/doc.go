// Package registry moves images between the store and registries (distribution-spec), with go-containerregistry's
// transport and authentication.
//
// A pull is one pass for each layer, several at once: download, check, decompress, unpack. What the store has already is
// not fetched, and of two pulls that want the same layer, in whatever processes, one fetches it and the other waits.
// Nothing has a name before all of it is there. What came of a layer before a connection broke, the registry went away or
// the process was killed is in ingest/, and the next pull asks for the rest of it (blob.go), until a collection of garbage
// takes it away. What passes is tried anew (patience.go); a registry that contradicts itself is refused, and nothing of
// what it said is kept.
//
// Where a registry's images are asked for, it and its mirrors, and how, is package hosts'. A mirror that does not serve is
// passed over; whatever comes from one is checked as what comes from the registry. A registry is spoken to without TLS
// only if it is on this host, or listed as insecure.
//
// Credentials are those of docker and podman: ~/.docker/config.json with its credential helpers, and auth.json.
package registry
