//go:build linux

package image

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
)

func nothing() ([]string, error) { return nil, nil }

func count(t *testing.T, s *Store, pattern string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.root, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// What nobody can say to be unused stays.
func TestCollectStopsWhenItCannotTell(t *testing.T) {
	s := Open(t.TempDir())
	img := importOne(t, s, "a", "1")
	record, err := os.ReadFile(s.recordPath(img.ID))
	if err == nil {
		err = os.WriteFile(s.recordPath(img.ID), []byte("{"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if n, _, err := s.Collect(nothing, true); n != 0 || err == nil || errs.HintOf(err) == "" {
		t.Errorf("an image that cannot be read: %d removed, %v", n, err)
	}
	if err := os.WriteFile(s.recordPath(img.ID), record, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(s.recordPath(img.ID)); err != nil {
		t.Fatal(err)
	}
	lost := errors.New("a container cannot be read")
	if n, _, err := s.Collect(func() ([]string, error) { return nil, lost }, true); n != 0 || !errors.Is(err, lost) {
		t.Errorf("a container that cannot be read: %d removed, %v", n, err)
	}
	writing, err := s.Writing()
	if err != nil {
		t.Fatal(err)
	}
	if n, _, err := s.Collect(nothing, false); n != 0 || err != nil {
		t.Errorf("beside a pull: %d removed, %v", n, err)
	}
	writing.Unlock()
	if blobs, trees := count(t, s, "blobs/sha256/*"), count(t, s, "layers/*/fs/file"); blobs != 3 || trees != 1 {
		t.Errorf("%d blobs and %d trees are left", blobs, trees)
	}
	tree := filepath.Join(s.layerDir(img.Layers[0].DiffID), "fs")
	if n, _, err := s.Collect(func() ([]string, error) { return []string{tree}, nil }, true); n != 3 || err != nil || count(t, s, "layers/*/fs/file") != 1 {
		t.Errorf("a tree that is in use: %d removed, %v", n, err)
	}
	if n, freed, err := s.Collect(nothing, false); n != 1 || freed < 1 || err != nil || count(t, s, "layers/*") != 0 {
		t.Errorf("the last tree: %d removed, %d bytes, %v", n, freed, err)
	}
}

func TestUnfinishedNames(t *testing.T) {
	s := Open(t.TempDir())
	img := importOne(t, s, "a", "1")
	tags := filepath.Join(s.root, "refs/docker.io/library/a/_tags")
	for name, id := range map[string]string{".new-1-2": img.ID, "lost": "sha256:" + img.ID[8:] + "0"} {
		if err := os.Symlink(id, filepath.Join(tags, name)); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || len(list[0].Names) != 1 {
		t.Errorf("%+v, %v", list[0].Names, err)
	}
	if _, _, err := s.Collect(nothing, true); err != nil || count(t, s, "refs/docker.io/library/a/_tags/*") != 1 || count(t, s, "refs/docker.io/library/a/_tags/.new*") != 0 {
		t.Errorf("names are left: %v", err)
	}
}

// What is damaged or missing beside a layer's tree is replaced by whoever has the layer.
func TestLayerIsCompleted(t *testing.T) {
	s := Open(t.TempDir())
	img := importOne(t, s, "a", "1")
	diffID := img.Layers[0].DiffID
	dir := s.layerDir(diffID)
	for _, damage := range []func() error{
		func() error { return os.WriteFile(filepath.Join(dir, layerFile), nil, 0o600) },
		func() error { return os.Remove(filepath.Join(dir, layerFile)) },
		func() error { return os.RemoveAll(filepath.Join(dir, "fs")) },
		func() error { // what a power cut leaves of a layer whose files nobody has synced
			return errors.Join(os.Truncate(filepath.Join(dir, layerFile), 0), os.Truncate(filepath.Join(dir, "fs/file"), 0))
		},
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		importOne(t, s, "a", "1")
		if l, ok := s.LayerOf(diffID); !ok || l.Blob != img.Layers[0].Blob {
			t.Errorf("the layer is not known: %+v", l)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "fs/file")); err != nil || string(b) != "1" {
			t.Errorf("%q, %v", b, err)
		}
	}
}

// A tree that is made again is not taken for garbage meanwhile.
func TestUnpackingWaitsForCollecting(t *testing.T) {
	s := Open(t.TempDir())
	img := importOne(t, s, "a", "1")
	if err := os.RemoveAll(s.layerDir(img.Layers[0].DiffID)); err != nil {
		t.Fatal(err)
	}
	lock, err := flock.Exclusive(filepath.Join(s.root, "images.lock"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := s.Lowers(img)
		done <- err
	}()
	select {
	case <-done:
		t.Error("it was unpacked beside a collection")
	case <-time.After(30 * time.Millisecond):
		lock.Unlock()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
