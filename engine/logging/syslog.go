//go:build linux

package logging

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/monitor/logs"
)

// facilities are those of RFC 5424, section 6.2.1, in the order of their numbers.
const facilities = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp security console solaris-cron local0 local1 local2 local3 local4 local5 local6 local7"

// local are the sockets where a syslog server of this host listens.
var local = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

func syslog(options map[string]string, tag string) (_ *logs.Syslog, err error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	out := &logs.Syslog{Tag: tag, Host: host, Pid: os.Getpid(), Format: options["syslog-format"]}
	if !slices.Contains([]string{"", "rfc3164", "rfc5424", "rfc5424micro"}, out.Format) {
		return nil, fmt.Errorf("invalid syslog format: %s", out.Format)
	}
	if out.Facility, err = facility(options["syslog-facility"]); err != nil {
		return nil, err
	}
	out.Network, out.Address, err = serverOf(options["syslog-address"])
	return out, err
}

// facility reads a name or a number; daemon by default, as Docker.
func facility(text string) (int, error) {
	if text == "" {
		text = "daemon"
	}
	names := strings.Fields(facilities)
	if i := slices.Index(names, text); i >= 0 {
		return i, nil
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 && n < len(names) {
		return n, nil
	}
	return 0, fmt.Errorf("invalid syslog facility: %s", text)
}

// serverOf reads an address: NETWORK://HOST[:PORT], or a socket's path. Names are looked up here, once: the monitor does
// not link what that needs.
func serverOf(text string) (network, address string, err error) {
	if text == "" {
		for _, path := range local {
			if _, err := os.Stat(path); err == nil {
				return "unixgram", path, nil
			}
		}
		return "unixgram", local[0], nil // the start will say that nobody is there
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", "", err
	}
	switch u.Scheme {
	case "unix", "unixgram":
		if u.Path == "" {
			return "", "", fmt.Errorf("unable to parse syslog address %s: it has no path", text)
		}
		return u.Scheme, u.Path, nil
	case "udp", "tcp":
		port := u.Port()
		if port == "" {
			port = "514"
		}
		at, err := net.ResolveUDPAddr("udp", net.JoinHostPort(u.Hostname(), port))
		if err != nil {
			return "", "", err
		}
		return u.Scheme, at.AddrPort().String(), nil
	}
	return "", "", fmt.Errorf("unsupported scheme of syslog-address: '%s': there are unix, unixgram, udp and tcp", u.Scheme)
}
