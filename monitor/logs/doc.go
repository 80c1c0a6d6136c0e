// Package logs keeps what a container's program writes, and reads it again.
//
// The monitor gives output to a [Writer], which cuts it into lines and gives each to the driver: a file in the format of
// Docker's json-file (file.go), the journal of systemd (journald.go), a syslog server (syslog.go). A full file becomes
// NAME.1, NAME.1 becomes NAME.2, and so on; those are compressed by a process of their own, which takes its memory with
// it (compress.go). Lines of a file are in the order of their times, so a time is found by halving (read.go).
package logs
