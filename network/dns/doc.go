// Package dns answers a container's questions for names. It listens inside the container's network namespace on
// 127.0.0.11, port 53, and is served from outside of it, by the container's monitor: nothing runs in the container, and
// what it cannot answer it asks the host's own resolvers from the host's namespace, so a stub like 127.0.0.53 works.
//
// Names are files (records.go): dns/<network>/<name>/<container> holds the addresses. A look-up is one readdir, whatever
// the number of containers, and a change is seen at once by everybody because there is nothing to tell.
//
// The package uses raw sockets in the runtime's poller and not package net: the monitor that carries it stays small.
package dns
