// Package container is the heart: one OCI container on this kernel, from a plan to the execve of its program.
//
// A start is a conversation of two processes over one SEQPACKET socket pair. The parent (start.go) is the runtime or the
// monitor; the child (init.go) is a second start of a sealed copy of the same program, cloned into new namespaces. Go
// cannot unshare a running program, because it has threads from its first instruction on; a fresh process has to be
// made with the namespaces as flags of its clone.
//
//	parent                                          child
//	NewPlan: reduce and check the specification
//	make the control group, set its limits
//	enter given namespaces and the group on a
//	thread of its own, clone with new namespaces →  born inside all of them
//	send the plan                                →  session keyring, host name, sysctls
//	                                                private propagation; the root and every mount onto handles;
//	                                                /dev; masks; read-only paths
//	run prestart and createRuntime hooks         ←→ (only when there are some)
//	                                                createContainer hooks; pivot_root; the old root is gone
//	                                                rlimits, groups, ids, capabilities, no_new_privs
//	write state.json                             ←  ready, or the error of the step that failed
//	Start: go                                    →  startContainer hooks; seccomp; execve
//	                                             ←  the socket closes with the execve, or brings its error
//
// Between ready and go the container is "created". A runtime that ends there, as `create` does, leaves a FIFO for the
// go: the child waits to read one byte of it, and `start` writes that byte.
//
// What security depends on: nothing below the root is looked up by a name that the container could change between two
// looks (package mount), our own program is never within the container's reach as a file on disk (seal.go), no
// descriptor of ours is left when the container's program starts (process.go), and the pid of a process is believed
// only together with its start time (state.go).
package container
