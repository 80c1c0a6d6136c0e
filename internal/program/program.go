//go:build linux

// Package program runs another program to its end. It is os/exec without what berth-runtime has no use for, which is
// forty kilobytes of it.
package program

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Program is a program that is to be run.
type Program struct {
	Path    string   // with a slash, or a name that is looked for in $PATH
	Args    []string // the first is its name
	Env     []string // all of it
	Dir     string
	Input   []byte
	Timeout time.Duration // after which it is killed; 0: never
}

// most is how much of the output is kept, in bytes.
const most = 1 << 20

// Run returns what the program has written to its standard output and error. An exit status other than 0 is an error.
// Input and output are files in memory, so that what the program leaves running cannot keep us waiting.
func (p *Program) Run() (out []byte, err error) {
	path, err := find(p.Path)
	if err != nil {
		return nil, err
	}
	in, err := memory(p.Input)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	said, err := memory(nil)
	if err != nil {
		return nil, err
	}
	defer said.Close()
	process, err := os.StartProcess(path, p.Args, &os.ProcAttr{Dir: p.Dir, Env: append([]string{}, p.Env...), Files: []*os.File{in, said, said}})
	if err != nil {
		return nil, err
	}
	var late atomic.Bool
	if p.Timeout > 0 {
		timer := time.AfterFunc(p.Timeout, func() { late.Store(true); _ = process.Kill() })
		defer timer.Stop()
	}
	state, err := process.Wait()
	switch {
	case err == nil && late.Load() && !state.Success():
		err = fmt.Errorf("it did not end within %v", p.Timeout)
	case err == nil && !state.Success():
		err = errors.New(state.String())
	}
	out, rerr := io.ReadAll(io.NewSectionReader(said, 0, most))
	if out = bytes.TrimSpace(out); err == nil {
		err = rerr
	}
	return out, err
}

// find looks for a name as a shell does.
func find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
		if path := dir + "/" + name; dir != "" && unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, os.ErrNotExist)
}

func memory(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("berth-program", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "berth-program")
	if _, err := f.WriteAt(content, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
