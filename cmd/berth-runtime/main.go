//go:build linux

// Command berth-runtime is an OCI runtime with runc's command line. Berth also starts it as a container's monitor and as
// a container's first process; it is small because each start of a container starts it twice.
package main

import (
	"os"
	"runtime"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/container/ocicli"
	"github.com/berth-containers/berth/monitor"
)

// init keeps the main thread for main: package container's init becomes another program on it.
func init() { runtime.LockOSThread() }

func main() {
	if len(os.Args) == 2 && os.Args[0] == "berth-runtime" {
		switch os.Args[1] {
		case "init":
			container.InitMain()
		case "exec":
			container.ExecMain()
		case "monitor":
			os.Exit(monitor.Main())
		}
	}
	os.Exit(ocicli.Main(os.Args[1:]))
}
