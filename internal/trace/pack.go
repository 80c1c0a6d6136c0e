//go:build linux

package trace

import (
	"encoding/binary"
	"errors"
	"time"
)

// Pack writes records one after the other, compactly and without reflection, for another process or a file. What was
// packed may be put behind something else that was packed. Shape of a record: process, name, why, err, the number of
// arguments, their keys and values, at, took; a string is its length and its bytes, all numbers are uvarints.
func Pack(records []Record) []byte {
	size := 0
	for i := range records {
		size += 256 + len(records[i].Why)
	}
	b := make([]byte, 0, size)
	for i := range records {
		r := &records[i]
		b = packText(b, r.Process, r.Name, r.Why, r.Err)
		b = binary.AppendUvarint(b, uint64(len(r.Args)))
		for _, a := range r.Args {
			b = packText(b, a.Key, a.Value)
		}
		b = binary.AppendUvarint(b, uint64(r.At))
		b = binary.AppendUvarint(b, uint64(r.Took))
	}
	return b
}

func packText(b []byte, texts ...string) []byte {
	for _, s := range texts {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// errPacked is what is wrong with bytes that Pack has not made.
var errPacked = errors.New("packed steps are damaged")

// Unpack reads what [Pack] wrote.
func Unpack(b []byte) ([]Record, error) {
	u := unpacker{rest: b}
	var records []Record
	for len(u.rest) > 0 && !u.bad {
		r := Record{Process: u.text(), Name: u.text(), Why: u.text(), Err: u.text()}
		n := u.number()
		for i := uint64(0); i < n && !u.bad; i++ {
			r.Args = append(r.Args, Arg{Key: u.text(), Value: u.text()})
		}
		r.At, r.Took = time.Duration(u.number()), time.Duration(u.number())
		records = append(records, r)
	}
	if u.bad {
		return nil, errPacked
	}
	return records, nil
}

// unpacker takes one thing after the other.
type unpacker struct {
	rest []byte
	bad  bool
}

func (u *unpacker) number() uint64 {
	v, n := binary.Uvarint(u.rest)
	if n <= 0 {
		u.bad, u.rest = true, nil
		return 0
	}
	u.rest = u.rest[n:]
	return v
}

func (u *unpacker) text() string {
	n := u.number()
	if n > uint64(len(u.rest)) {
		u.bad, u.rest = true, nil
		return ""
	}
	s := string(u.rest[:n])
	u.rest = u.rest[n:]
	return s
}
