//go:build linux

package why

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kernelKilled looks into the kernel's log for the line about a process that was killed because the host had no memory
// left (mm/oom_kill.c). It returns "" when there is none, or the log cannot be read.
func kernelKilled(pid int) string {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	b := make([]byte, 8192)
	found := ""
	for { // each read is one record: "level,number,time,flags;text" (Documentation/ABI/testing/dev-kmsg)
		n, err := unix.Read(fd, b)
		if err == unix.EPIPE { // the oldest were overwritten meanwhile
			continue
		}
		if err != nil || n <= 0 {
			return found
		}
		if line := oomLine(string(b[:n]), pid); line != "" {
			found = line
		}
	}
}

// oomLine returns the text of a record that tells of the end of this process.
func oomLine(record string, pid int) string {
	_, text, _ := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	rest, ok := strings.CutPrefix(text, "Out of memory: Killed process ")
	if !ok {
		return ""
	}
	number, _, _ := strings.Cut(rest, " ")
	if number != strconv.Itoa(pid) {
		return ""
	}
	return text
}
