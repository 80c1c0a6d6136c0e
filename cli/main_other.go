//go:build !linux

package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/berth-containers/berth/internal/version"
)

// Main hands the command line to a Berth on a Linux host.
func Main(args []string) int {
	if len(args) == 1 && (args[0] == "--version" || args[0] == "-v") {
		fmt.Println("Berth version " + version.String())
		return 0
	}
	host, rest := remoteHost(args)
	if host == "" {
		fmt.Fprintln(os.Stderr, strings.TrimSpace(`
berth: containers run on Linux: on this system, berth speaks to a Linux host.
hint: berth -H ssh://USER@HOST COMMAND, or set BERTH_HOST`))
		return 125
	}
	return runRemote(host, rest)
}
