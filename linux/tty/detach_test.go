package tty

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/berth-containers/berth/internal/errs"
)

func TestParseDetachKeys(t *testing.T) {
	for keys, want := range map[string]string{
		"":              "\x10\x11",
		"ctrl-p,ctrl-q": "\x10\x11",
		"a,b,ctrl-z":    "ab\x1a",
		"ctrl-@,ctrl-_": "\x00\x1f",
		`ctrl-[,ctrl-\`: "\x1b\x1c",
		"ctrl-],ctrl-^": "\x1d\x1e",
		"DEL":           "\x7f",
	} {
		if got, err := ParseDetachKeys(keys); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v; want %q", keys, got, err, want)
		}
	}
	for _, keys := range []string{"ctrl-", "ctrl-P", "ctrl-1", "ab", "a,,b", "ctrl-p,", "strg-p", "ctrl-ä"} {
		if got, err := ParseDetachKeys(keys); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q is read as %q, %v", keys, got, err)
		}
	}
}

// All texts of up to seven of three letters, against the plain meaning: the part before the first place where the
// keys are.
func TestDetachReaderFindsTheKeysWhereverReadsAreCut(t *testing.T) {
	var texts []string
	var grow func(s string)
	grow = func(s string) {
		texts = append(texts, s)
		if len(s) < 7 {
			for _, c := range "abx" {
				grow(s + string(c))
			}
		}
	}
	grow("")
	cuts := map[string]func(io.Reader) io.Reader{
		"at once":      func(r io.Reader) io.Reader { return r },
		"byte by byte": iotest.OneByteReader,
		"with its end": iotest.DataErrReader,
	}
	for _, keys := range []string{"a", "ab", "aa", "aab", "abab", "aabaa"} {
		for _, text := range texts {
			want, wantErr := text, error(nil)
			if at := strings.Index(text, keys); at >= 0 {
				want, wantErr = text[:at], ErrDetached
			}
			for how, cut := range cuts {
				for _, size := range []int{1, 3, 64} {
					var got bytes.Buffer
					r := NewDetachReader(cut(strings.NewReader(text)), []byte(keys))
					_, err := io.CopyBuffer(struct{ io.Writer }{&got}, r, make([]byte, size))
					if got.String() != want || err != wantErr {
						t.Fatalf("keys %q in %q, %s, room for %d: %q, %v; want %q, %v", keys, text, how, size, got.String(), err, want, wantErr)
					}
				}
			}
		}
	}
}

func TestDetachReaderEnds(t *testing.T) {
	r := NewDetachReader(strings.NewReader("x\x10\x11never seen"), []byte{16, 17})
	if b, err := io.ReadAll(r); string(b) != "x" || !errors.Is(err, ErrDetached) {
		t.Errorf("%q, %v", b, err)
	}
	if n, err := r.Read(make([]byte, 9)); n != 0 || err != ErrDetached {
		t.Errorf("after the end: %d, %v", n, err)
	}
	broken := errors.New("broken")
	r = NewDetachReader(io.MultiReader(strings.NewReader("x\x10"), iotest.ErrReader(broken)), []byte{16, 17})
	if b, err := io.ReadAll(r); string(b) != "x\x10" || err != broken {
		t.Errorf("an error of the source: %q, %v", b, err)
	}
	if b, err := io.ReadAll(NewDetachReader(strings.NewReader("\x10\x11"), nil)); string(b) != "\x10\x11" || err != nil {
		t.Errorf("without keys: %q, %v", b, err)
	}
}
