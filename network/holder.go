//go:build linux

package network

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// PortHolder names the process that holds a port of this host ("nginx (pid 812)"), or "" when it cannot be told.
func PortHolder(protocol string, number uint16) string {
	for _, table := range []string{protocol, protocol + "6"} {
		if inode := socketInode(table, number); inode != "" {
			return processOf("socket:[" + inode + "]")
		}
	}
	return ""
}

// socketInode looks a local port up in /proc/net/{tcp,udp,…} (proc(5)) of the calling thread's namespace.
func socketInode(table string, number uint16) string {
	b, err := os.ReadFile("/proc/thread-self/net/" + table)
	if err != nil {
		return ""
	}
	want := fmt.Sprintf(":%04X", number)
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) > 9 && strings.HasSuffix(f[1], want) {
			return f[9]
		}
	}
	return ""
}

func processOf(socket string) string {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if t, err := os.Readlink(fd); err == nil && t == socket {
			pid := strings.Split(fd, "/")[2]
			comm, _ := os.ReadFile("/proc/" + pid + "/comm")
			if n, err := strconv.Atoi(pid); err == nil {
				return fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), n)
			}
		}
	}
	return ""
}
