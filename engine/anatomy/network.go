//go:build linux

package anatomy

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/engine"
)

// Network is how packets reach the container.
type Network struct {
	Mode      string
	Endpoints []Endpoint
	Listening []Socket
	Paths     []string // from a published port to a socket, in words
}

// Endpoint is the container's place in a network.
type Endpoint struct {
	Network, Bridge, HostLink, Link, MAC string
	Addresses                            []string
}

// Socket is one that waits for connections, or packets, in the container's network namespace.
type Socket struct {
	Protocol string
	Address  netip.AddrPort
	Process  string `json:",omitempty"` // of this container that has it
}

func network(c *engine.Container, pid int, pids []int) (Network, error) {
	out := Network{Mode: string(c.Inspect(false).HostConfig.NetworkMode)}
	endpoints, err := c.Endpoints()
	if err != nil {
		return out, err
	}
	owners := sockets(pids)
	for _, protocol := range []string{"tcp", "tcp6", "udp", "udp6"} {
		out.Listening = append(out.Listening, listening(pid, protocol, owners)...)
	}
	for _, e := range endpoints {
		shown := Endpoint{Network: e.NetworkName, Bridge: e.Bridge, HostLink: e.HostInterface, Link: e.Interface, MAC: e.MAC}
		for _, a := range []netip.Prefix{e.Address, e.Address6} {
			if a.IsValid() {
				shown.Addresses = append(shown.Addresses, a.String())
			}
		}
		out.Endpoints = append(out.Endpoints, shown)
		for _, p := range e.Ports {
			to := netip.AddrPortFrom(e.Address.Addr(), p.ContainerPort)
			host := "any address of the host"
			if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
				host = p.HostIP.String()
			}
			socket := "nobody listens there"
			if i := slices.IndexFunc(out.Listening, func(s Socket) bool { return s.takes(p.Protocol, to) }); i >= 0 {
				socket = out.Listening[i].Process
			}
			out.Paths = append(out.Paths, fmt.Sprintf("%s, port %d/%s → DNAT (nft: table berth) → bridge %s → %s → %s of the container → %s → %s",
				host, p.HostPort, p.Protocol, e.Bridge, e.HostInterface, e.Interface, to, socket))
		}
	}
	return out, nil
}

// takes reports whether what is sent to an address arrives at the socket.
func (s Socket) takes(protocol string, to netip.AddrPort) bool {
	return strings.TrimSuffix(s.Protocol, "6") == protocol && s.Address.Port() == to.Port() && (s.Address.Addr().IsUnspecified() || s.Address.Addr() == to.Addr())
}

// sockets finds which process has which socket: inode → "nginx (pid 7)", the pid that it has inside.
func sockets(pids []int) map[string]string {
	out := map[string]string{}
	for _, pid := range pids {
		fds, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
		for _, fd := range fds {
			target, err := os.Readlink(fd)
			inode, ok := strings.CutPrefix(target, "socket:[")
			if err != nil || !ok {
				continue
			}
			if p, err := readProcess(pid); err == nil && out[inode] == "" {
				name, _, _ := strings.Cut(filepath.Base(strings.Fields(p.Command)[0]), ":")
				out[strings.TrimSuffix(inode, "]")] = fmt.Sprintf("%s (pid %d inside, %d outside)", name, p.Inside, pid)
			}
		}
	}
	return out
}

// listening reads /proc/PID/net/{tcp,udp}[6] (proc(5)).
func listening(pid int, protocol string, owners map[string]string) (out []Socket) {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/" + protocol)
	waits := map[bool]string{true: "0A", false: "07"}[strings.HasPrefix(protocol, "tcp")] // TCP_LISTEN; an unconnected UDP socket
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != waits {
			continue
		}
		if a, ok := parseAddress(f[1]); ok {
			out = append(out, Socket{Protocol: protocol, Address: a, Process: owners[f[9]]})
		}
	}
	return out
}

// parseAddress reads "0100007F:0050": the address in words of the host's order (here always little-endian), the port.
func parseAddress(s string) (netip.AddrPort, bool) {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	n, perr := strconv.ParseUint(port, 16, 16)
	if err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), ok
}
