//go:build linux

package systemd

import (
	"encoding/binary"
	"errors"
	"strings"
)

// Kinds of messages, and fields of their headers (D-Bus Specification, "Message Format").
const (
	methodCall, methodReturn, errorReply, signal = 1, 2, 3, 4

	fieldPath, fieldInterface, fieldMember, fieldError, fieldReply, fieldDestination, fieldSignature = 1, 2, 3, 4, 5, 6, 8

	fixed   = 16      // bytes at the begin of a message that say how long it is
	largest = 1 << 22 // bytes of a message that is read; those that concern us have some hundreds
)

// align is the boundary on which a type begins, and the size of a number; 0 is no type that we write.
func align(t byte) int {
	switch t {
	case 'y', 'g':
		return 1
	case 'n', 'q':
		return 2
	case 'b', 'i', 'u', 's', 'o', 'a':
		return 4
	case 'x', 't', 'd', '(':
		return 8
	}
	return 0
}

// encoder writes values, little end first. Boundaries count from its begin.
type encoder struct{ b []byte }

//go:noinline
func (e *encoder) pad(n int) {
	for len(e.b)%n != 0 {
		e.b = append(e.b, 0)
	}
}

// number writes a number of a size in bytes.
//
//go:noinline
func (e *encoder) number(size int, n uint64) {
	e.pad(size)
	for range size {
		e.b = append(e.b, byte(n))
		n >>= 8
	}
}

// text writes text of the type s, o or g.
func (e *encoder) text(t byte, s string) {
	e.number(align(t), uint64(len(s)))
	e.b = append(append(e.b, s...), 0)
}

// array writes an array whose elements, of the type t, write writes.
func (e *encoder) array(t byte, write func()) {
	e.number(4, 0)
	length := len(e.b) - 4
	e.pad(align(t))
	begin := len(e.b)
	write()
	binary.LittleEndian.PutUint32(e.b[length:], uint32(len(e.b)-begin))
}

// message is one message.
type message struct {
	kind                                         byte
	serial, reply                                uint32
	path, iface, member, err, destination, types string
	body                                         decoder
}

// encode writes a method call with the arguments that a body has.
func (m *message) encode(body []byte) []byte {
	const version = 1
	e := &encoder{b: []byte{'l', methodCall, 0, version}}
	e.number(4, uint64(len(body)))
	e.number(4, uint64(m.serial))
	e.array('(', func() {
		for _, f := range []struct {
			code, t byte
			text    string
		}{{fieldPath, 'o', m.path}, {fieldInterface, 's', m.iface}, {fieldMember, 's', m.member}, {fieldDestination, 's', m.destination}, {fieldSignature, 'g', m.types}} {
			if f.text != "" {
				e.pad(8)
				e.b = append(e.b, f.code)
				e.text('g', string(rune(f.t)))
				e.text(f.t, f.text)
			}
		}
	})
	e.pad(8)
	return append(e.b, body...)
}

// decoder reads values of either byte order, from another process: it never panics. What is not there is zero, and bad.
type decoder struct {
	b   []byte
	at  int
	big bool
	bad bool
}

//go:noinline
func (d *decoder) take(boundary, n int) []byte {
	at := (d.at + boundary - 1) / boundary * boundary
	if d.bad || n > len(d.b)-at {
		d.bad = true
		return make([]byte, min(n, 4))
	}
	d.at = at + n
	return d.b[at:d.at]
}

//go:noinline
func (d *decoder) number() uint32 {
	b := d.take(4, 4)
	if d.big {
		return binary.BigEndian.Uint32(b)
	}
	return binary.LittleEndian.Uint32(b)
}

// text reads text of the type s, o or g.
func (d *decoder) text(t byte) string {
	var n uint32
	if t == 'g' {
		n = uint32(d.take(1, 1)[0])
	} else {
		n = d.number()
	}
	if n >= largest {
		d.bad = true
	}
	if d.bad {
		return ""
	}
	b := d.take(1, int(n)+1)
	if d.bad = d.bad || b[n] != 0; d.bad {
		return ""
	}
	return string(b[:n])
}

// texts reads a body's first values, texts and numbers of 32 bits; of numbers nobody wants more than that they are there.
func (m *message) texts(types string) ([]string, error) {
	d := m.body
	d.bad = !strings.HasPrefix(m.types, types)
	out := make([]string, len(types))
	for i := range out {
		t := types[i]
		if t == 'v' {
			d.bad = d.bad || d.text('g') != "s"
			t = 's'
		}
		if t == 'u' {
			d.number()
		} else {
			out[i] = d.text(t)
		}
	}
	if d.bad {
		return nil, errCut
	}
	return out, nil
}

var errCut = errors.New("what came is no message of D-Bus, or not the one that was asked for")

// size is the length of a message by its first bytes.
func size(head []byte) (int, error) {
	d := decoder{b: head, at: 4, big: head[0] == 'B'}
	body := uint64(d.number())
	d.number()
	total := fixed + (uint64(d.number())+7)&^7 + body
	if head[0] != 'l' && !d.big || total > largest {
		return 0, errCut
	}
	return int(total), nil
}

// decode reads a message, of the length that size has told.
func decode(b []byte) (*message, error) {
	d := decoder{b: b, at: 8, big: b[0] == 'B'}
	m := &message{kind: b[1], serial: d.number()}
	end := d.number() + fixed
	for uint32(d.at) < end && !d.bad {
		code := d.take(8, 1)[0]
		switch t := d.text('g'); t {
		case "u": // the specification has fields of these types and no others
			if n := d.number(); code == fieldReply {
				m.reply = n
			}
		case "s", "o", "g":
			if field, text := m.field(code), d.text(t[0]); field != nil {
				*field = text
			}
		default:
			d.bad = true
		}
	}
	d.take(8, 0)
	if d.bad {
		return nil, errCut
	}
	m.body = decoder{b: d.b[d.at:], big: d.big}
	return m, nil
}

func (m *message) field(code byte) *string {
	switch code {
	case fieldPath:
		return &m.path
	case fieldInterface:
		return &m.iface
	case fieldMember:
		return &m.member
	case fieldError:
		return &m.err
	case fieldSignature:
		return &m.types
	}
	return nil
}
