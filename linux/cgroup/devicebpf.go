//go:build linux

package cgroup

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The device filter of version 2 is a BPF program (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE). Its context is three words:
// access<<16 | type, major, minor. It is a chain of comparisons, the last rule first, because the last one that matches
// decides.

// insn is one instruction (Documentation/bpf/standardization/instruction-set.rst).
type insn struct {
	op       byte
	dst, src byte
	off      int16
	imm      int32
}

const (
	opLoadW  = 0x61 // dst = *(u32 *)(src + off)
	opMov    = 0xb7 // dst = imm
	opMovX   = 0xbf // dst = src
	opAnd32  = 0x54 // dst &= imm, 32 bits
	opRsh32  = 0x74 // dst >>= imm, 32 bits
	opJneImm = 0x56 // if dst != imm (32 bits) skip off
	opJeqImm = 0x16
	opJneReg = 0x5e // if dst != src (32 bits) skip off
	opExit   = 0x95

	typeBlock, typeChar                  = 1, 2    // BPF_DEVCG_DEV_*
	accessMknod, accessRead, accessWrite = 1, 2, 4 // BPF_DEVCG_ACC_*
)

// Registers: r1 is scratch after the context was read, r2 the type, r3 the access, r4 major, r5 minor.
func deviceProgram(rules []specs.LinuxDeviceCgroup) []insn {
	p := []insn{
		{op: opLoadW, dst: 2, src: 1, off: 0}, {op: opAnd32, dst: 2, imm: 0xffff},
		{op: opLoadW, dst: 3, src: 1, off: 0}, {op: opRsh32, dst: 3, imm: 16},
		{op: opLoadW, dst: 4, src: 1, off: 4}, {op: opLoadW, dst: 5, src: 1, off: 8},
	}
	for i := len(rules) - 1; i >= 0; i-- {
		block := deviceRule(rules[i])
		p = append(p, block...)
		if len(block) == 2 { // it matches everything: what comes before it can never decide
			return p
		}
	}
	return append(p, insn{op: opMov, imm: 0}, insn{op: opExit})
}

func deviceRule(r specs.LinuxDeviceCgroup) []insn {
	var tests []insn
	switch deviceType(r.Type) {
	case "b":
		tests = append(tests, insn{op: opJneImm, dst: 2, imm: typeBlock})
	case "c":
		tests = append(tests, insn{op: opJneImm, dst: 2, imm: typeChar})
	}
	if mask := accessMask(r.Access); mask != accessMknod|accessRead|accessWrite {
		tests = append(tests, insn{op: opMovX, dst: 1, src: 3}, insn{op: opAnd32, dst: 1, imm: mask})
		if r.Allow { // everything that is asked for must be allowed
			tests = append(tests, insn{op: opJneReg, dst: 1, src: 3})
		} else { // anything that is asked for may be denied
			tests = append(tests, insn{op: opJeqImm, dst: 1, imm: 0})
		}
	}
	if r.Major != nil && *r.Major >= 0 {
		tests = append(tests, insn{op: opJneImm, dst: 4, imm: int32(*r.Major)})
	}
	if r.Minor != nil && *r.Minor >= 0 {
		tests = append(tests, insn{op: opJneImm, dst: 5, imm: int32(*r.Minor)})
	}
	verdict := int32(0)
	if r.Allow {
		verdict = 1
	}
	block := append(tests, insn{op: opMov, imm: verdict}, insn{op: opExit})
	for i := range block { // a test that fails jumps behind the block
		switch block[i].op {
		case opJneImm, opJeqImm, opJneReg:
			block[i].off = int16(len(block) - i - 1)
		}
	}
	return block
}

func accessMask(access string) int32 {
	if access == "" {
		access = "rwm"
	}
	var m int32
	for c, bit := range map[string]int32{"m": accessMknod, "r": accessRead, "w": accessWrite} {
		if strings.Contains(access, c) {
			m |= bit
		}
	}
	return m
}

func encode(p []insn) []byte {
	var b []byte
	for _, i := range p {
		b = append(b, i.op, i.dst|i.src<<4)
		b = binary.NativeEndian.AppendUint16(b, uint16(i.off))
		b = binary.NativeEndian.AppendUint32(b, uint32(i.imm))
	}
	return b
}

// bpf(2) commands and constants (include/uapi/linux/bpf.h).
const (
	bpfProgLoad, bpfProgAttach, bpfProgDetach = 5, 8, 9
	bpfProgGetFDByID, bpfProgQuery            = 13, 16
	bpfTypeCgroupDevice, bpfAttachDevice      = 15, 6
	bpfAllowMulti                             = 2
)

func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR, unix.EAGAIN:
			continue
		}
		return -1, errno
	}
}

// attachDeviceFilter puts a program in front of the group's device accesses and then takes away those that were there,
// so that no moment is without one.
func (g *Group) attachDeviceFilter(p []insn) error {
	code := encode(p)
	license := []byte("Apache-2.0\x00")
	load := struct {
		progType, insnCount uint32
		insns, license      uint64
		logLevel, logSize   uint32
		logBuf              uint64
		kernVersion, flags  uint32
	}{progType: bpfTypeCgroupDevice, insnCount: uint32(len(p)), insns: addr(&code[0]), license: addr(&license[0])}
	prog, err := bpf(bpfProgLoad, unsafe.Pointer(&load), unsafe.Sizeof(load))
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	if err != nil {
		return fmt.Errorf("load device filter: %w", err)
	}
	defer unix.Close(prog)
	dir, err := unix.Open(g.state.Dirs[""], unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open control group: %w", err)
	}
	defer unix.Close(dir)
	old, err := deviceFilters(dir)
	if err != nil {
		return err
	}
	attach := struct{ target, prog, kind, flags, replace uint32 }{uint32(dir), uint32(prog), bpfAttachDevice, bpfAllowMulti, 0}
	if _, err := bpf(bpfProgAttach, unsafe.Pointer(&attach), unsafe.Sizeof(attach)); err != nil {
		return fmt.Errorf("attach device filter: %w", err)
	}
	for _, id := range old {
		detachFilter(dir, id)
	}
	return nil
}

func addr(b *byte) uint64 { return uint64(uintptr(unsafe.Pointer(b))) }

// deviceFilters lists the ids of the programs that are attached to the group itself.
func deviceFilters(dir int) ([]uint32, error) {
	ids := make([]uint32, 64)
	query := struct {
		target, kind, flags, attachFlags uint32
		ids                              uint64
		count, _                         uint32
	}{target: uint32(dir), kind: bpfAttachDevice, ids: uint64(uintptr(unsafe.Pointer(&ids[0]))), count: uint32(len(ids))}
	_, err := bpf(bpfProgQuery, unsafe.Pointer(&query), unsafe.Sizeof(query))
	runtime.KeepAlive(ids)
	if err != nil {
		return nil, fmt.Errorf("list device filters: %w", err)
	}
	return ids[:min(int(query.count), len(ids))], nil
}

func detachFilter(dir int, id uint32) {
	get := struct{ id, next, flags uint32 }{id: id}
	fd, err := bpf(bpfProgGetFDByID, unsafe.Pointer(&get), unsafe.Sizeof(get))
	if err != nil {
		return // it is gone
	}
	defer unix.Close(fd)
	detach := struct{ target, prog, kind, flags uint32 }{uint32(dir), uint32(fd), bpfAttachDevice, 0}
	_, _ = bpf(bpfProgDetach, unsafe.Pointer(&detach), unsafe.Sizeof(detach))
}
