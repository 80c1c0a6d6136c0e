//go:build linux

package container

import (
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

// reap is a container's first process that stays: it starts the program, passes signals on, and reaps every process that
// has lost its parent (`run --init`). A program that was not written for it makes a poor first process: it does not
// reap, and signals that it does not handle do nothing to it (pid_namespaces(7)). It is this program's sealed copy, so
// no image needs to bring one. It returns only when the program could not be started.
func (p *initProcess) reap(file string) error {
	debug.SetGCPercent(100)
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	files := []uintptr{0, 1, 2}
	for fd := 3; fd < 3+p.Preserved; fd++ {
		files = append(files, uintptr(fd))
	}
	// A process group of its own, and the terminal's foreground: Ctrl-C is for it, not for us.
	sys := &syscall.SysProcAttr{Setpgid: true, Foreground: p.Process.Terminal, Ctty: 0}
	child, err := syscall.ForkExec(file, p.Process.Args, &syscall.ProcAttr{Env: p.Process.Env, Files: files, Sys: sys})
	if err != nil {
		return explainExec(file, err)
	}
	if err := p.limitPids(); err != nil {
		return err
	}
	p.talk.close() // the runtime takes it for the execve
	go func() {
		for s := range signals {
			if sig := s.(unix.Signal); sig != unix.SIGCHLD && sig != unix.SIGURG {
				_ = unix.Kill(child, sig)
			}
		}
	}()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			os.Exit(125)
		case pid == child && status.Signaled():
			os.Exit(128 + int(status.Signal()))
		case pid == child && status.Exited():
			os.Exit(status.ExitStatus())
		}
	}
}
