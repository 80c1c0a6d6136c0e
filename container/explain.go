//go:build linux

package container

import (
	"bytes"
	"encoding/binary"
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
	case bytes.HasPrefix(head, []byte("\x7fELF")):
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
	machine, loader, ok := readELF(f)
	if !ok {
		return errs.New(kind, op, fmt.Errorf("%w: the program file is damaged", err))
	}
	mine := map[string]uint16{"amd64": machineAMD64, "arm64": machineARM64}[runtime.GOARCH]
	if machine != mine && errors.Is(err, unix.ENOEXEC) {
		return errs.New(kind, op, fmt.Errorf("exec format error: the program is for %s, this machine is %s", cpuName(machine), cpuName(mine))).
			WithHint("use an image for this platform, or install qemu-user-static on the host")
	}
	if loader == "" {
		return errs.New(kind, op, err)
	}
	if _, serr := os.Stat(loader); serr != nil {
		return errs.New(kind, op, fmt.Errorf("%w: its loader %s is not in the container", err, loader)).
			WithHint("the program was linked for another C library; use a matching base image, or link it statically")
	}
	return errs.New(kind, op, err)
}

// Machines of ELF files (elf(5), e_machine).
const (
	machine386     = 3
	machineMIPS    = 8
	machinePPC64   = 21
	machineS390    = 22
	machineARM     = 40
	machineAMD64   = 62
	machineARM64   = 183
	machineRISCV   = 243
	machineLoong64 = 258
)

func cpuName(machine uint16) string {
	switch machine {
	case machine386:
		return "386"
	case machineMIPS:
		return "mips"
	case machinePPC64:
		return "ppc64"
	case machineS390:
		return "s390x"
	case machineARM:
		return "arm"
	case machineAMD64:
		return "amd64"
	case machineARM64:
		return "arm64"
	case machineRISCV:
		return "riscv64"
	case machineLoong64:
		return "loong64"
	}
	return fmt.Sprintf("another CPU (ELF machine %d)", machine)
}

// readELF finds out for which machine a program is, and which loader it asks for ("" is a static program). It reads
// these two fields itself: the standard library's reader of the whole format would be a tenth of this program's size.
func readELF(f *os.File) (machine uint16, loader string, ok bool) {
	head := make([]byte, 64)
	if n, _ := f.ReadAt(head, 0); n < 52 {
		return 0, "", false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if head[5] == 2 { // EI_DATA: ELFDATA2MSB
		order = binary.BigEndian
	}
	wide := head[4] == 2 // EI_CLASS: ELFCLASS64
	machine = order.Uint16(head[18:])
	var at, fileOffset, fileSize int64
	var size, count int
	if wide {
		at, size, count = int64(order.Uint64(head[32:])), int(order.Uint16(head[54:])), int(order.Uint16(head[56:]))
	} else {
		at, size, count = int64(order.Uint32(head[28:])), int(order.Uint16(head[42:])), int(order.Uint16(head[44:]))
	}
	entry := make([]byte, 56)
	for i := range count {
		if n, _ := f.ReadAt(entry[:min(size, 56)], at+int64(i*size)); n < 32 {
			return machine, "", false
		}
		if order.Uint32(entry) != 3 { // PT_INTERP
			continue
		}
		if wide {
			fileOffset, fileSize = int64(order.Uint64(entry[8:])), int64(order.Uint64(entry[32:]))
		} else {
			fileOffset, fileSize = int64(order.Uint32(entry[4:])), int64(order.Uint32(entry[16:]))
		}
		name := make([]byte, min(max(fileSize, 0), 4096))
		n, _ := f.ReadAt(name, fileOffset)
		return machine, string(bytes.TrimRight(name[:n], "\x00")), n > 0
	}
	return machine, "", true
}
