// Package cli is the command line, in Docker's words. There is a file for each command; main.go has the table of all.
//
// A call builds only the command that it names: building all of them costs a millisecond, which a container's whole
// start has few of. Help and completion, which need the names of all, build all.
//
// On other systems than Linux, and with -H, the command line is handed to a Berth on another host (remote.go).
package cli
