package cli

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
)

// remoteHost finds the host that a call is for, in -H or BERTH_HOST, and the call without it. "" is this host.
func remoteHost(args []string) (host string, rest []string) {
	host = os.Getenv("BERTH_HOST")
	for i := 0; i < len(args); i++ {
		arg := args[i]
		value, found := strings.CutPrefix(arg, "--host=")
		switch {
		case found:
			return value, append(append([]string{}, args[:i]...), args[i+1:]...)
		case (arg == "-H" || arg == "--host") && i+1 < len(args):
			return args[i+1], append(append([]string{}, args[:i]...), args[i+2:]...)
		case !strings.HasPrefix(arg, "-"):
			return host, args
		}
	}
	return host, args
}

// runRemote runs the call by the Berth of another host, over ssh: its terminal, its streams and its exit status are
// the call's.
func runRemote(host string, args []string) int {
	u, err := url.Parse(host)
	if err != nil || u.Scheme != "ssh" || u.Hostname() == "" {
		fmt.Fprintf(os.Stderr, "berth: host %q: want ssh://[USER@]HOST[:PORT]\n", host)
		return 125
	}
	ssh := []string{}
	if u.Port() != "" {
		ssh = append(ssh, "-p", u.Port())
	}
	if u.User != nil {
		ssh = append(ssh, "-l", u.User.Username())
	}
	if wantsTerminal(args) {
		ssh = append(ssh, "-t")
	}
	words := []string{"berth"}
	for _, arg := range args {
		words = append(words, quote(arg))
	}
	ssh = append(ssh, "--", u.Hostname(), strings.Join(words, " "))
	cmd := exec.Command("ssh", ssh...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ExitCode()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "berth: reach %s: %v\n", host, err)
		return 125
	}
	return 0
}

// wantsTerminal reports whether a call asks for a terminal: -t, -ti, --tty before the image.
func wantsTerminal(args []string) bool {
	for _, arg := range args {
		if arg == "--tty" || len(arg) > 1 && arg[0] == '-' && arg[1] != '-' && strings.Contains(arg, "t") && strings.Trim(arg, "-tid") == "" {
			return true
		}
	}
	return false
}

// quote makes a word that a POSIX shell reads as it is.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
