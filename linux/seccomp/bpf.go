//go:build linux

package seccomp

import (
	"encoding/binary"
	"sort"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// insn is an instruction whose jumps still have names. A conditional jump whose target is "" falls through.
type insn struct {
	code          uint16
	k             uint32
	onTrue, onNot string
	label         string // this place's own name; the instruction is empty then
}

const (
	load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	ret    = unix.BPF_RET | unix.BPF_K
	jump   = unix.BPF_JMP | unix.BPF_JA
	jumpEq = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jumpGe = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	jumpGt = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K

	// struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]
	offNumber, offArch, offArgs = 0, 4, 16
)

// finish lays out the program:
//
//	load arch; each architecture in turn: not mine? → the next; load number; the tree
//	no architecture matched: the process is killed, as libseccomp's filters do
func (c *compiler) finish() ([]byte, error) {
	p := []insn{{code: load, k: offArch}}
	byAudit := map[uint32][]section{}
	var order []uint32
	for _, s := range c.sections {
		if byAudit[s.arch.audit] == nil {
			order = append(order, s.arch.audit)
		}
		byAudit[s.arch.audit] = append(byAudit[s.arch.audit], s)
	}
	for i, audit := range order {
		next := "arch" + strconv.Itoa(i+1)
		mine := "mine" + strconv.Itoa(i)
		p = append(p, insn{code: jumpEq, k: audit, onTrue: mine}, insn{code: jump, onTrue: next}, insn{label: mine}, insn{code: load, k: offNumber})
		p = append(p, c.tree(byAudit[audit], mine)...)
		p = append(p, insn{label: next})
	}
	p = append(p, insn{code: ret, k: unix.SECCOMP_RET_KILL_PROCESS})
	return assemble(p)
}

// leaf is what is done with the numbers from first on: an action, or clauses.
type leaf struct {
	first   uint32
	action  uint32
	clauses []clause
}

// leaves cuts all numbers into ranges with one decision each.
func (c *compiler) leaves(ss []section) []leaf {
	var numbers []uint32
	calls := map[uint32][]clause{}
	x32 := false
	highest := uint32(0)
	for _, s := range ss {
		x32 = x32 || s.arch.bit != 0
		for n, cl := range s.calls {
			numbers = append(numbers, n)
			calls[n] = cl
			if n&^x32Bit > highest {
				highest = n &^ x32Bit
			}
		}
	}
	sort.Slice(numbers, func(i, j int) bool { return numbers[i] < numbers[j] })
	beyond := c.def
	if c.def&unix.SECCOMP_RET_ACTION_FULL == unix.SECCOMP_RET_ERRNO {
		beyond = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	out := []leaf{{first: 0, action: c.def}}
	put := func(l leaf) {
		last := &out[len(out)-1]
		switch {
		case last.first == l.first:
			*last = l
		case l.clauses == nil && last.clauses == nil && last.action == l.action:
		default:
			out = append(out, l)
		}
	}
	for _, n := range numbers {
		if n&x32Bit != 0 && out[len(out)-1].first < x32Bit {
			put(leaf{first: highest + 1, action: beyond})
			put(leaf{first: x32Bit, action: c.def})
		}
		put(c.decide(n, calls[n]))
		put(leaf{first: n + 1, action: c.def})
	}
	if !x32 {
		put(leaf{first: highest + 1, action: beyond})
		return out
	}
	put(leaf{first: highest + 1 | x32Bit, action: beyond})
	return out
}

// decide simplifies one call's clauses: those behind one that always matches can never be reached.
func (c *compiler) decide(n uint32, cl []clause) leaf {
	for i, x := range cl {
		if len(x.args) == 0 {
			if i == 0 {
				return leaf{first: n, action: x.action}
			}
			return leaf{first: n, clauses: cl[:i+1]}
		}
	}
	return leaf{first: n, clauses: cl}
}

func (c *compiler) tree(ss []section, prefix string) []insn {
	ls := c.leaves(ss)
	p, blocks := make([]insn, 0, 5*len(ls)), []insn{}
	var build func(ls []leaf)
	build = func(ls []leaf) {
		if len(ls) == 1 {
			if ls[0].clauses == nil {
				p = append(p, insn{code: ret, k: ls[0].action})
				return
			}
			at := prefix + "call" + strconv.Itoa(int(ls[0].first))
			blocks = append(blocks, insn{label: at})
			blocks = append(blocks, c.block(ls[0].clauses, at)...)
			p = append(p, insn{code: jump, onTrue: at})
			return
		}
		mid := len(ls) / 2
		high := prefix + "t" + strconv.Itoa(int(ls[mid].first))
		low := high + "l"
		p = append(p, insn{code: jumpGe, k: ls[mid].first, onNot: low}, insn{code: jump, onTrue: high}, insn{label: low})
		build(ls[:mid])
		p = append(p, insn{label: high})
		build(ls[mid:])
	}
	build(ls)
	return append(p, blocks...)
}

func (c *compiler) block(cl []clause, name string) []insn {
	var p []insn
	for i, x := range cl {
		next := name + "n" + strconv.Itoa(i)
		for j, a := range x.args {
			part, _ := compare(a, next+"a"+strconv.Itoa(j))
			for k := range part { // a comparison that fails goes on with the next clause
				if part[k].onNot == "no" {
					part[k].onNot = next
				}
				if part[k].onTrue == "no" {
					part[k].onTrue = next
				}
			}
			p = append(p, part...)
		}
		p = append(p, insn{code: ret, k: x.action}, insn{label: next})
	}
	return append(p, insn{code: ret, k: c.def})
}

// compare tests one argument of 64 bits in halves; "no" is where it goes when the test fails, the end when it holds.
func compare(a specs.LinuxSeccompArg, name string) ([]insn, error) {
	hiOff, loOff := uint32(offArgs+8*a.Index+4), uint32(offArgs+8*a.Index) // both architectures are little-endian
	hi, lo := uint32(a.Value>>32), uint32(a.Value)
	yes := name + "y"
	end := insn{label: yes}
	ordered := func(strict uint16, lowOp uint16, not bool) []insn {
		p := []insn{{code: load, k: hiOff}}
		low := []insn{{code: jumpEq, k: hi, onNot: "no"}, {code: load, k: loOff}}
		if not { // less: the high half decides the other way round
			p = append(p, insn{code: jumpGt, k: hi, onTrue: "no"}, insn{code: jumpEq, k: hi, onNot: yes}, insn{code: load, k: loOff}, insn{code: lowOp, k: lo, onTrue: "no"})
		} else {
			p = append(p, insn{code: strict, k: hi, onTrue: yes})
			p = append(p, low...)
			p = append(p, insn{code: lowOp, k: lo, onNot: "no"})
		}
		return append(p, end)
	}
	switch a.Op {
	case specs.OpEqualTo:
		return []insn{{code: load, k: hiOff}, {code: jumpEq, k: hi, onNot: "no"}, {code: load, k: loOff}, {code: jumpEq, k: lo, onNot: "no"}}, nil
	case specs.OpNotEqual:
		return []insn{{code: load, k: hiOff}, {code: jumpEq, k: hi, onNot: yes}, {code: load, k: loOff}, {code: jumpEq, k: lo, onTrue: "no"}, end}, nil
	case specs.OpMaskedEqual:
		want := a.ValueTwo & a.Value
		return []insn{{code: load, k: hiOff}, {code: and, k: hi}, {code: jumpEq, k: uint32(want >> 32), onNot: "no"},
			{code: load, k: loOff}, {code: and, k: lo}, {code: jumpEq, k: uint32(want), onNot: "no"}}, nil
	case specs.OpGreaterThan:
		return ordered(jumpGt, jumpGt, false), nil
	case specs.OpGreaterEqual:
		return ordered(jumpGt, jumpGe, false), nil
	case specs.OpLessThan:
		return ordered(jumpGt, jumpGe, true), nil
	case specs.OpLessEqual:
		return ordered(jumpGt, jumpGt, true), nil
	}
	return nil, invalid("unknown operator %q", a.Op)
}

// assemble turns names into distances. A conditional jump reaches 255 instructions; all of ours are short, and far ones
// are unconditional.
func assemble(p []insn) ([]byte, error) {
	at := make(map[string]int, len(p)/2)
	n := 0
	for _, i := range p {
		if i.label != "" {
			at[i.label] = n
		} else {
			n++
		}
	}
	if n > maxInsns {
		return nil, invalid("it needs %d instructions, the kernel takes %d", n, maxInsns)
	}
	out := make([]byte, 0, 8*n)
	pos := 0
	for _, i := range p {
		if i.label != "" {
			continue
		}
		pos++
		var jt, jf int
		if i.onTrue != "" {
			jt = at[i.onTrue] - pos
		}
		if i.onNot != "" {
			jf = at[i.onNot] - pos
		}
		k := i.k
		if i.code == jump {
			k, jt = uint32(jt), 0
		}
		if jt > 255 || jf > 255 || jt < 0 || jf < 0 {
			return nil, invalid("a rule has too many arguments")
		}
		out = binary.NativeEndian.AppendUint16(out, i.code)
		out = append(out, byte(jt), byte(jf))
		out = binary.NativeEndian.AppendUint32(out, k)
	}
	return out, nil
}
