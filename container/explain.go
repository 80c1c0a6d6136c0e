//go:build linux

package container

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// explainExec looks at a file that could not be executed and says why, which the kernel's two or three error numbers do
// not (execve(2)).
func explainExec(file string, err error) error {
	op := fmt.Sprintf("exec %s", file)
	kind := errs.NotExecutable
	if errors.Is(err, unix.ENOENT) {
		kind = errs.NoCommand
	}
	e := errs.New(kind, op, err)
	f, oerr := os.Open(file)
	if oerr != nil {
		return e
	}
	defer f.Close()
	head := make([]byte, 256)
	n, _ := f.ReadAt(head, 0)
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		return explainScript(op, kind, head, err)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return explainELF(op, kind, f, err)
	case errors.Is(err, unix.ENOEXEC) && n == 0:
		return errs.New(kind, op, fmt.Errorf("exec format error: the file is empty"))
	case errors.Is(err, unix.ENOEXEC):
		return errs.New(kind, op, fmt.Errorf("exec format error: it is neither a program nor a script with #! in its first line")).
			WithHint("begin the script with #!/bin/sh")
	}
	return e
}

func explainScript(op string, kind errs.Kind, head []byte, err error) error {
	line, _, _ := bytes.Cut(head[2:], []byte("\n"))
	if bytes.HasSuffix(line, []byte("\r")) {
		return errs.New(kind, op, fmt.Errorf("%w: its first line ends in a carriage return, so the interpreter %q is looked for", err, strings.TrimSpace(string(line))+`\r`)).
			WithHint("save the script with Unix line ends (dos2unix)")
	}
	interpreter := strings.Fields(string(line))
	if len(interpreter) > 0 {
		if _, serr := os.Stat(interpreter[0]); serr != nil {
			return errs.New(kind, op, fmt.Errorf("%w: its interpreter %s is not in the container", err, interpreter[0]))
		}
	}
	return errs.New(kind, op, err)
}

func explainELF(op string, kind errs.Kind, f *os.File, err error) error {
	e, perr := elf.NewFile(f)
	if perr != nil {
		return errs.New(kind, op, fmt.Errorf("%w: the program file is damaged", err))
	}
	defer e.Close()
	mine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	if e.Machine != mine && errors.Is(err, unix.ENOEXEC) {
		return errs.New(kind, op, fmt.Errorf("exec format error: the program is for %s, this machine is %s", cpuName(e.Machine), cpuName(mine))).
			WithHint("use an image for this platform, or install qemu-user-static on the host")
	}
	for _, p := range e.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		b := make([]byte, min(p.Filesz, 4096))
		if _, rerr := p.ReadAt(b, 0); rerr == nil {
			loader := string(bytes.TrimRight(b, "\x00"))
			if _, serr := os.Stat(loader); serr != nil {
				return errs.New(kind, op, fmt.Errorf("%w: its loader %s is not in the container", err, loader)).
					WithHint("the program was linked for another C library; use a matching base image, or link it statically")
			}
		}
	}
	return errs.New(kind, op, err)
}

func cpuName(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	case elf.EM_386:
		return "386"
	case elf.EM_ARM:
		return "arm"
	}
	return strings.ToLower(strings.TrimPrefix(m.String(), "EM_"))
}
