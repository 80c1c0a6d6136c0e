// Command berth is the container engine: it runs containers in Docker's words. Without berth-runtime beside it, it also
// plays that program's parts.
package main

import (
	"os"

	"github.com/berth-containers/berth/cli"
)

func main() {
	if playsRuntime() {
		return
	}
	os.Exit(cli.Main(os.Args[1:]))
}
