package layer

import (
	"io"
	"sync"
)

// Buffers of [Ahead]: enough that neither side waits for the other over a file or two.
const (
	aheadBuffers = 8
	aheadSize    = 128 << 10 // bytes
)

// Ahead is a reader that another goroutine reads ahead of, so that a stream is decompressed on one core while its files are
// written on another.
type Ahead struct {
	full, free chan []byte
	stop       chan struct{}
	end        sync.WaitGroup
	made       int    // buffers
	err        error  // of the source; known when full is closed
	now, rest  []byte // the buffer that is being read, and what is left of it
}

// NewAhead begins to read r, which belongs to it until [Ahead.Close].
func NewAhead(r io.Reader) *Ahead {
	a := &Ahead{full: make(chan []byte, aheadBuffers), free: make(chan []byte, aheadBuffers), stop: make(chan struct{})}
	a.end.Go(func() {
		defer close(a.full)
		for a.err == nil {
			b := a.buffer()
			if b == nil {
				return
			}
			n := 0
			for n < aheadSize/2 && a.err == nil {
				var m int
				m, a.err = r.Read(b[n:])
				n += m
			}
			a.full <- b[:n] // there is room for all buffers
		}
	})
	return a
}

// buffer is one that is free; nil, when nobody reads any more.
func (a *Ahead) buffer() []byte {
	if len(a.free) == 0 && a.made < aheadBuffers {
		a.made++
		return make([]byte, aheadSize)
	}
	select {
	case b := <-a.free:
		return b
	case <-a.stop:
		return nil
	}
}

// Read is io.Reader's.
func (a *Ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.now != nil {
			a.free <- a.now[:aheadSize]
			a.now = nil
		}
		b, ok := <-a.full
		if !ok {
			return 0, a.err
		}
		a.now, a.rest = b, b
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends the reading ahead, after the Read of the source that is under way.
func (a *Ahead) Close() {
	close(a.stop)
	a.end.Wait()
}
