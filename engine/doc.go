// Package engine is what Docker calls a container engine: containers with names, images, logs and exit codes, made
// from the lower floors, which know nothing of each other. It is the only place that wires them together.
//
// One start, in the order of the files:
//
//	config.go    what the user asked: Docker's create request and a few keys of ours
//	create.go    checks it, chooses an id and a name, writes containers/<id>/config.json
//	spec.go      translates it and the image's config into an OCI runtime spec; nothing else does
//	start.go     mounts the root file system, attaches the network, starts the monitor
//	attach.go    connects the caller's streams with the container's
//
// The file system is the database: a folder per container below the data root that survives a reboot, a folder per
// running container below the state root that does not. Readers take no lock. Whether a container runs is asked of
// the kernel (the monitor's and the init's pid and start time), never believed from a file.
package engine
