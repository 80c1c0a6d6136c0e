// Package spawn starts a process that first makes a list of system calls and then becomes a program.
//
// It is for what no program with threads can do to itself, and every Go program has threads: to enter a user namespace,
// a mount namespace or a time namespace (setns(2)). The process is made like vfork(2)'s: it has our memory until it
// becomes the program, and our thread waits for that. So nothing is copied, and the process can run no code of Go's: the
// loop that makes the calls is in assembly (spawn_amd64.s, spawn_arm64.s) and touches neither stack nor heap.
//
// It must not be born into a frozen control group: it would never become the program, and our thread would wait for
// ever. Whoever calls asks first.
package spawn
