// Package errs is the one error type of Berth: what was tried ("verb object"), what kind of failure it was, why it
// failed, and what the user can do about it.
//
// The kind decides the exit code of a command (125, 126, 127 as Docker's) and the status of an HTTP answer, so no
// caller compares error texts. An error can cross a process boundary ([Wire]) and keeps kind, text and hint there.
package errs

import (
	"encoding/json"
	"errors"
	"io/fs"
	"syscall"
)

// Kind says what a caller can do about an error. The zero Kind is a failure of the engine itself.
type Kind uint8

const (
	Internal      Kind = iota // the engine or the kernel failed: exit 125, HTTP 500
	Invalid                   // the request is wrong: 125 (usage), 400
	NotFound                  // no such container, image, network, volume: 125, 404
	Conflict                  // the name is taken, the state does not allow it: 125, 409
	Permission                // not root, not allowed: 125, 403
	Unsupported               // this host or kernel cannot do it: 125, 501
	Unavailable               // a registry or another peer does not answer: 125, 503
	NoSpace                   // disk or quota is full: 125, 507
	NotModified               // already in the state that was asked for: 0, 304
	NotExecutable             // the container's program exists and cannot be executed: 126, 400
	NoCommand                 // the container's program does not exist: 127, 400
	Canceled                  // the user interrupted: 130, 499
	numKinds
)

var kinds = [numKinds]struct {
	name       string
	exit, http int
}{
	Internal:      {"internal", 125, 500},
	Invalid:       {"invalid", 125, 400},
	NotFound:      {"not found", 125, 404},
	Conflict:      {"conflict", 125, 409},
	Permission:    {"permission", 125, 403},
	Unsupported:   {"unsupported", 125, 501},
	Unavailable:   {"unavailable", 125, 503},
	NoSpace:       {"no space", 125, 507},
	NotModified:   {"not modified", 0, 304},
	NotExecutable: {"not executable", 126, 400},
	NoCommand:     {"no command", 127, 400},
	Canceled:      {"canceled", 130, 499},
}

func (k Kind) String() string { return kinds[k%numKinds].name }

// Error is one failure. Op is "verb object" ("mount proc", "open image alpine") or empty when Err says it all.
type Error struct {
	Op   string
	Kind Kind
	Err  error
	Hint string // what the user can do, one sentence without a full stop; may be empty
}

// New makes an error of a kind. An op of "" shows the cause alone. A nil cause shows the op alone.
func New(kind Kind, op string, cause error) *Error { return &Error{Op: op, Kind: kind, Err: cause} }

// Text makes an error of a kind that is nothing but its text.
func Text(kind Kind, text string) *Error { return &Error{Kind: kind, Err: errors.New(text)} }

// Wrap puts "verb object" in front of a cause and keeps its kind and hint. It returns nil for a nil cause.
func Wrap(op string, cause error) error {
	if cause == nil {
		return nil
	}
	return &Error{Op: op, Kind: KindOf(cause), Err: cause}
}

// WithHint returns the same error with a hint for the user.
func (e *Error) WithHint(hint string) *Error {
	c := *e
	c.Hint = hint
	return &c
}

func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Op
	case e.Op == "":
		return e.Err.Error()
	}
	return e.Op + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf finds the kind of an error: the outermost [Error] that is not Internal, else what a system call's number
// says, else Internal.
func KindOf(err error) Kind {
	if x := find(err, func(e *Error) bool { return e.Kind != Internal }); x != nil {
		return x.Kind
	}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return NoSpace
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return Permission
	}
	return Internal
}

// Is reports whether an error is of a kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// HintOf returns the outermost hint in an error's chain, or "".
func HintOf(err error) string {
	if x := find(err, func(e *Error) bool { return e.Hint != "" }); x != nil {
		return x.Hint
	}
	return ""
}

// find returns the outermost [Error] that fits, also below an errors.Join.
func find(err error, fits func(*Error) bool) *Error {
	if x, ok := err.(*Error); ok && fits(x) {
		return x
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return find(e.Unwrap(), fits)
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if x := find(one, fits); x != nil {
				return x
			}
		}
	}
	return nil
}

// ExitCode is the exit code of a command that ends with this error; 0 for nil.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	return kinds[KindOf(err)].exit
}

// HTTPStatus is the status of an HTTP answer that reports this error; 200 for nil.
func HTTPStatus(err error) int {
	if err == nil {
		return 200
	}
	return kinds[KindOf(err)].http
}

// Wire is an error on its way between two processes: one text, its kind, its hint.
type Wire struct {
	Text string `json:"text"`
	Kind Kind   `json:"kind,omitempty"`
	Hint string `json:"hint,omitempty"`
}

// ToWire flattens an error for another process; nil gives nil.
func ToWire(err error) *Wire {
	if err == nil {
		return nil
	}
	return &Wire{Text: err.Error(), Kind: KindOf(err), Hint: HintOf(err)}
}

// Err turns a received error back into one; a nil Wire gives nil.
func (w *Wire) Err() error {
	if w == nil {
		return nil
	}
	return &Error{Kind: w.Kind % numKinds, Err: errors.New(w.Text), Hint: w.Hint}
}

var _ json.Marshaler = Kind(0)

// MarshalJSON writes a kind as its name, so that files and wires can be read by a person.
func (k Kind) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// UnmarshalJSON reads a kind's name; an unknown name is Internal.
func (k *Kind) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*k = Internal
	for i := range kinds {
		if kinds[i].name == s {
			*k = Kind(i)
		}
	}
	return nil
}
