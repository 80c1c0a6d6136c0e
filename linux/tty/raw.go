package tty

import (
	"os"

	"golang.org/x/term"

	"github.com/berth-containers/berth/internal/errs"
)

// State is how a terminal was set before [MakeRaw].
type State struct {
	f   *os.File
	was *term.State
}

// IsTerminal reports whether a file is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// MakeRaw lets every key of the user's terminal through, Ctrl-C included, and stops it from showing and translating
// what is typed: the container's own terminal does all that.
func MakeRaw(f *os.File) (*State, error) {
	was, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, errs.Wrap("make terminal "+f.Name()+" raw", err)
	}
	return &State{f, was}, nil
}

// Restore sets the terminal as it was before [MakeRaw]. It may be called again, and on nil, so that every way out of a
// program can call it.
func (s *State) Restore() error {
	if s == nil {
		return nil
	}
	return errs.Wrap("restore terminal "+s.f.Name(), term.Restore(int(s.f.Fd()), s.was))
}

// GetSize asks a terminal for the columns and rows of its window.
func GetSize(f *os.File) (width, height uint16, err error) {
	w, h, err := term.GetSize(int(f.Fd()))
	return uint16(w), uint16(h), errs.Wrap("get size of terminal "+f.Name(), err)
}
