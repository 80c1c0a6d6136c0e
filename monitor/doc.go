// Package monitor is the one process of Berth that stays with a container: its parent, its scribe, its executor.
//
// The engine prepares everything, starts the monitor in a session of its own (Launch), and hears from it once: running,
// or why not. From then on no process of Berth is needed but this one, and it ends with its container:
//
//	pipes or a terminal; their log                  stdio.go, package logs
//	union mount, create, start                      monitor.go, with package container
//	who it is, for everybody who asks               status.go: status.json
//	attach, signals, stop, exec, pause, update      control.go: a Unix socket, with the frames of wire.go
//	wait; start again if the policy says so         restart.go
//	exit.json, then everything is undone            end.go
//
// What is to be undone was prepared by the engine as a list of names and ready-made messages to the kernel, so that
// this process links neither images nor networks, and stays small.
package monitor
