package osthread

import "syscall"

// isMain reports whether the calling thread is the one whose number is the process's.
func isMain() bool { return syscall.Gettid() == syscall.Getpid() }
