package main

import (
	"os"
	"runtime"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/monitor"
)

// init keeps the main thread for main: package container's init becomes another program on it.
func init() {
	if isRuntime() {
		runtime.LockOSThread()
	}
}

func isRuntime() bool {
	return len(os.Args) == 2 && os.Args[0] == "berth-runtime" && (os.Args[1] == "init" || os.Args[1] == "exec" || os.Args[1] == "monitor")
}

// playsRuntime is berth-runtime's part, when this program was started under its name by itself.
func playsRuntime() bool {
	if !isRuntime() {
		return false
	}
	switch os.Args[1] {
	case "init":
		container.InitMain()
	case "exec":
		container.ExecMain()
	}
	os.Exit(monitor.Main())
	return true
}
