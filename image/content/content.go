//go:build linux

package content

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
)

// Store is the folder of all blobs.
type Store struct{ root string }

// Open makes a store below the engine's data root. It touches nothing.
func Open(root string) *Store { return &Store{root} }

// Path is the file of a blob.
func (s *Store) Path(d digest.Digest) string {
	return filepath.Join(s.root, "blobs", "sha256", strings.TrimPrefix(string(d), "sha256:"))
}

// Check refuses what is no digest of this store: it would be a path.
func Check(d digest.Digest) error {
	hexa, ok := strings.CutPrefix(string(d), "sha256:")
	if !ok || len(hexa) != 64 || strings.Trim(hexa, "0123456789abcdef") != "" {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid digest %q: want sha256: and 64 hexadecimal digits", d))
	}
	return nil
}

// Has reports whether a blob is there, and its size in bytes.
func (s *Store) Has(d digest.Digest) (size int64, ok bool) {
	if Check(d) != nil {
		return 0, false
	}
	fi, err := os.Stat(s.Path(d))
	if err != nil {
		return 0, false
	}
	return fi.Size(), true
}

// Open opens a blob for reading.
func (s *Store) Open(d digest.Digest) (*os.File, error) {
	if err := Check(d); err != nil {
		return nil, err
	}
	f, err := os.Open(s.Path(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.New(errs.NotFound, "open blob "+string(d), err)
	}
	return f, errs.Wrap("open blob "+string(d), err)
}

// Read reads a blob of at most max bytes and checks its digest.
func (s *Store) Read(d digest.Digest, max int64) ([]byte, error) {
	f, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	switch {
	case err != nil:
		return nil, errs.Wrap("read blob "+string(d), err)
	case int64(len(b)) > max:
		return nil, errs.New(errs.Invalid, "read blob "+string(d), fmt.Errorf("it has more than %d bytes", max))
	case digest.FromBytes(b) != d:
		return nil, errs.New(errs.Internal, "read blob "+string(d), errors.New("its content has another digest: the disk has damaged it"))
	}
	return b, nil
}

// Write stores bytes and returns their digest.
func (s *Store) Write(b []byte) (digest.Digest, error) {
	w, err := s.Writer()
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := w.Write(b); err != nil {
		return "", err
	}
	return w.Commit("")
}

// Remove deletes a blob; one that is gone is no error.
func (s *Store) Remove(d digest.Digest) error {
	if err := Check(d); err != nil {
		return err
	}
	if err := os.Remove(s.Path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap("remove blob "+string(d), err)
	}
	return nil
}

// List lists the digests of all blobs.
func (s *Store) List() ([]digest.Digest, error) {
	entries, err := os.ReadDir(filepath.Join(s.root, "blobs", "sha256"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap("list blobs", err)
	}
	var out []digest.Digest
	for _, e := range entries {
		if d := digest.Digest("sha256:" + e.Name()); Check(d) == nil {
			out = append(out, d)
		}
	}
	return out, nil
}

// Writer writes one blob.
type Writer struct {
	s     *Store
	f     *os.File
	hash  hash.Hash
	size  int64
	lock  *flock.Lock // of the digest, when it was known from the begin
	prior int64
}

func (s *Store) makeFolders() error {
	err := os.MkdirAll(filepath.Join(s.root, "ingest"), 0o700)
	if err == nil {
		err = os.MkdirAll(filepath.Join(s.root, "blobs", "sha256"), 0o700)
	}
	return err
}

// Writer begins a blob whose digest is not known.
func (s *Store) Writer() (*Writer, error) {
	var f *os.File
	err := s.makeFolders()
	if err == nil {
		f, err = os.CreateTemp(filepath.Join(s.root, "ingest"), "blob-")
	}
	if err != nil {
		return nil, errs.Wrap("write blob", err)
	}
	return &Writer{s: s, f: f, hash: sha256.New()}, nil
}

// Write is io.Writer's.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	return n, errs.Wrap("write blob", err)
}

// Size is how many bytes were written.
func (w *Writer) Size() int64 { return w.size }

// Digest is that of what was written so far.
func (w *Writer) Digest() digest.Digest {
	return digest.Digest("sha256:" + hex.EncodeToString(w.hash.Sum(nil)))
}

// Commit gives the blob its name. want is the digest that it must have, or "".
func (w *Writer) Commit(want digest.Digest) (digest.Digest, error) {
	d := w.Digest()
	if want != "" && want != d {
		return "", errs.New(errs.Invalid, "store blob "+string(want), fmt.Errorf("what came has the digest %s", d))
	}
	err := w.f.Sync()
	if err == nil {
		err = w.f.Chmod(0o600)
	}
	if err == nil {
		err = os.Rename(w.f.Name(), w.s.Path(d))
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(w.s.Path(d)))
	}
	if err != nil {
		return "", errs.Wrap("store blob", err)
	}
	return d, errs.Wrap("store blob", w.f.Close())
}

// Abort throws away what was not committed. After Commit it does nothing.
func (w *Writer) Abort() {
	if w.f.Close() == nil {
		_ = os.Remove(w.f.Name())
	}
}
