//go:build linux

package content

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
)

const (
	firstLook = 5 * time.Millisecond // how often a waiting writer looks whether it may go on
	slowLook  = 200 * time.Millisecond
)

// Continue begins the blob d where its last writer stopped, whether that gave up or was killed: what it left in
// ingest/<hex> counts, and [Writer.Replay] reads it. One writer has a digest at a time, in all processes; the others wait
// here, and waiting is told to them once. Who has waited looks for the blob before anything else.
func (s *Store) Continue(ctx context.Context, d digest.Digest, waiting func()) (*Writer, error) {
	if err := Check(d); err != nil {
		return nil, err
	}
	if err := s.makeFolders(); err != nil {
		return nil, errs.Wrap("write blob", err)
	}
	path := filepath.Join(s.root, "ingest", strings.TrimPrefix(string(d), "sha256:"))
	lock, err := waitFor(ctx, path+".lock", waiting)
	if err != nil {
		return nil, errs.Wrap("write blob "+string(d), err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	var fi os.FileInfo
	if err == nil {
		if fi, err = f.Stat(); err != nil {
			f.Close()
		}
	}
	if err != nil {
		lock.Remove()
		return nil, errs.Wrap("write blob "+string(d), err)
	}
	return &Writer{s: s, f: f, hash: sha256.New(), lock: lock, prior: fi.Size()}, nil
}

// waitFor takes a lock, or gives up when ctx ends, which flock(2) itself would not.
func waitFor(ctx context.Context, path string, waiting func()) (*flock.Lock, error) {
	for pause := firstLook; ; pause = min(2*pause, slowLook) {
		lock, err := flock.TryExclusive(path)
		if lock != nil || err != nil {
			return lock, err
		}
		if pause == firstLook {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, errs.New(errs.Canceled, "", context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// Prior is how many bytes an earlier writer has left.
func (w *Writer) Prior() int64 { return w.prior }

// Replay reads what an earlier writer has left, which thereby counts as written. It comes before the first Write.
func (w *Writer) Replay() io.Reader { return replay{w} }

type replay struct{ w *Writer }

func (r replay) Read(p []byte) (int, error) {
	n, err := r.w.f.Read(p)
	r.w.hash.Write(p[:n])
	r.w.size += int64(n)
	return n, err
}

// Rewind makes what is there count as left by an earlier writer, unless it is more than max bytes: then it is forgotten.
func (w *Writer) Rewind(max int64) error {
	left, err := w.f.Seek(0, io.SeekEnd)
	if err == nil && left > max {
		return w.Restart()
	}
	if err == nil {
		_, err = w.f.Seek(0, io.SeekStart)
	}
	w.hash.Reset()
	w.size, w.prior = 0, left
	return errs.Wrap("write blob", err)
}

// Restart forgets all that was written, also by others before.
func (w *Writer) Restart() error {
	err := w.f.Truncate(0)
	if err == nil {
		_, err = w.f.Seek(0, io.SeekStart)
	}
	w.hash.Reset()
	w.size, w.prior = 0, 0
	return errs.Wrap("write blob", err)
}

// Suspend lets go of a blob that was begun with [Store.Continue], and lets others at it: in any case the last thing to do
// with it. What was neither committed nor aborted is kept for the next who continues it.
func (w *Writer) Suspend() {
	if w.size == 0 && w.prior == 0 {
		w.Abort()
	}
	_ = w.f.Close()
	w.lock.Remove()
}
