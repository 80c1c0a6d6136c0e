package layer

import (
	"bytes"
	"errors"
	"io"
	"math/rand"
	"testing"
	"testing/iotest"
)

func TestAheadReadsTheSame(t *testing.T) {
	want := make([]byte, 3*aheadBuffers*aheadSize+17)
	_, _ = rand.New(rand.NewSource(1)).Read(want)
	broken := errors.New("broken")
	for name, source := range map[string]func() io.Reader{
		"whole":    func() io.Reader { return bytes.NewReader(want) },
		"halves":   func() io.Reader { return iotest.HalfReader(bytes.NewReader(want)) },
		"with end": func() io.Reader { return iotest.DataErrReader(bytes.NewReader(want)) },
		"broken":   func() io.Reader { return io.MultiReader(bytes.NewReader(want), iotest.ErrReader(broken)) },
	} {
		a := NewAhead(source())
		got, err := io.ReadAll(iotest.OneByteReader(io.LimitReader(a, 5)))
		rest, err2 := io.ReadAll(a)
		if !bytes.Equal(append(got, rest...), want) || err != nil || (err2 != nil) != (name == "broken") || err2 != nil && err2 != broken {
			t.Errorf("%s: %d bytes of %d, %v, %v", name, len(got)+len(rest), len(want), err, err2)
		}
		a.Close()
	}
}

// Whoever has enough of it closes it: then nobody reads the source any more.
func TestAheadEnds(t *testing.T) {
	n := 0
	a := NewAhead(readerFunc(func(p []byte) (int, error) { n++; return len(p), nil }))
	if _, err := io.ReadFull(a, make([]byte, 10*aheadSize)); err != nil {
		t.Fatal(err)
	}
	a.Close()
	seen := n
	if a.made != aheadBuffers || n != seen || n > 10+aheadBuffers+1 {
		t.Errorf("%d buffers, %d reads", a.made, n)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
