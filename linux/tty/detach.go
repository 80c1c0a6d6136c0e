package tty

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
)

// DefaultDetachKeys is what a user types to leave a container's terminal without ending the container.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ErrDetached ends the input of a [DetachReader] in which the keys were found. Its text is Docker's.
var ErrDetached = errors.New("read escape sequence")

// ParseDetachKeys reads a list of keys in Docker's syntax, "ctrl-p,ctrl-q" or "a,b,ctrl-@": characters, "DEL", or
// "ctrl-" and one of a-z @ [ \ ] ^ _. It returns the bytes that the terminal sends for them; an empty list is
// [DefaultDetachKeys]. A key that it does not know is an error of kind Invalid.
func ParseDetachKeys(keys string) ([]byte, error) {
	if keys == "" {
		keys = DefaultDetachKeys
	}
	var out []byte
	for _, key := range strings.Split(keys, ",") {
		b, ok := keyByte(key)
		if !ok {
			return nil, errs.New(errs.Invalid, "", fmt.Errorf("invalid detach keys (%s) provided: unknown key %q", keys, key)).
				WithHint(`write them as "ctrl-p,ctrl-q": characters, or ctrl- and one of a-z @ [ \ ] ^ _`)
		}
		out = append(out, b)
	}
	return out, nil
}

func keyByte(key string) (byte, bool) {
	if key == "DEL" {
		return 0x7f, true
	}
	if len(key) == 1 {
		return key[0], true
	}
	c, ok := strings.CutPrefix(key, "ctrl-")
	if !ok || len(c) != 1 {
		return 0, false
	}
	switch b := c[0]; {
	case b >= 'a' && b <= 'z':
		return b - 'a' + 1, true
	case b == '@' || b >= '[' && b <= '_':
		return b - '@', true // ASCII's control characters lie 64 below these
	}
	return 0, false
}

// DetachReader passes on what it reads until it finds the detach keys, one right after the other, also when they come
// in several reads. The keys themselves are not passed on; those that begin a sequence are held back until the next
// key tells what they are.
type DetachReader struct {
	src     io.Reader
	keys    []byte
	back    []int  // back[i]: how many keys are still matched when i were and the next is another (Knuth, Morris, Pratt)
	matched int    // keys matched so far, held back
	ready   []byte // read, decided on, not yet passed on
	err     error  // what comes after ready
}

// NewDetachReader looks for keys, as [ParseDetachKeys] returns them, in what src gives. Without keys it passes on all.
func NewDetachReader(src io.Reader, keys []byte) *DetachReader {
	return &DetachReader{src: src, keys: keys, back: borders(keys)}
}

// borders tells for each beginning of keys how long the longest shorter beginning is that it ends with.
func borders(keys []byte) []int {
	back := make([]int, len(keys)+1)
	for i, k := 1, 0; i < len(keys); i++ {
		for k > 0 && keys[i] != keys[k] {
			k = back[k]
		}
		if keys[i] == keys[k] {
			k++
		}
		back[i+1] = k
	}
	return back
}

// Read is io.Reader's. After the last byte before the keys it returns [ErrDetached], for ever.
func (r *DetachReader) Read(p []byte) (int, error) {
	if len(r.keys) == 0 || len(p) == 0 {
		return r.src.Read(p)
	}
	for len(r.ready) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		n, err := r.src.Read(p)
		r.scan(p[:n])
		if r.err == nil && err != nil {
			// Nothing follows that could complete the sequence: what was held back was meant for the container.
			r.ready, r.matched, r.err = append(r.ready, r.keys[:r.matched]...), 0, err
		}
	}
	n := copy(p, r.ready)
	r.ready = r.ready[n:]
	return n, nil
}

// scan sorts what was read into what is ready and what is held back. What follows the keys is dropped.
func (r *DetachReader) scan(in []byte) {
	r.ready = r.ready[:0]
	for _, b := range in {
		for r.matched > 0 && b != r.keys[r.matched] {
			keep := r.back[r.matched]
			r.ready = append(r.ready, r.keys[:r.matched-keep]...)
			r.matched = keep
		}
		if b != r.keys[r.matched] {
			r.ready = append(r.ready, b)
			continue
		}
		if r.matched++; r.matched == len(r.keys) {
			r.err = ErrDetached
			return
		}
	}
}
