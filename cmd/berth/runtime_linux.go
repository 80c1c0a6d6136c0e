package main

import (
	"os"
	"runtime"
	"slices"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/monitor"
	"github.com/berth-containers/berth/monitor/logs"
)

// init keeps the main thread for main: package container's init becomes another program on it.
func init() {
	if isRuntime() {
		runtime.LockOSThread()
	}
}

func isRuntime() bool {
	return len(os.Args) == 2 && os.Args[0] == "berth-runtime" && slices.Contains([]string{"init", "exec", "monitor", logs.CompressArg}, os.Args[1])
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
	case logs.CompressArg:
		os.Exit(logs.CompressMain())
	}
	os.Exit(monitor.Main())
	return true
}
