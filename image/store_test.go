//go:build linux

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/berth-containers/berth/internal/errs"
)

func tarOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func importOne(t testing.TB, s *Store, ref, content string) *Image {
	t.Helper()
	img, err := s.Import(bytes.NewReader(tarOf(t, map[string]string{"file": content})), ImportOptions{Ref: ref, Change: func(c *dockerspec.DockerOCIImage) error {
		c.Config.Cmd = []string{"cat", "/file"}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestImportAndResolve(t *testing.T) {
	s := Open(t.TempDir())
	img := importOne(t, s, "mine:v1", "hello")
	for _, name := range []string{"mine:v1", "docker.io/library/mine:v1", img.ID, strings.TrimPrefix(img.ID, "sha256:")[:12]} {
		got, err := s.Resolve(name)
		if err != nil || got.ID != img.ID {
			t.Errorf("%s: %v", name, err)
		}
	}
	lowers, err := s.Lowers(img)
	if err != nil || len(lowers) != 1 {
		t.Fatal(lowers, err)
	}
	if b, err := os.ReadFile(filepath.Join(lowers[0], "file")); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if img.Size != 5 || img.Config.Config.Cmd[0] != "cat" || img.Config.OS != "linux" || len(img.Config.RootFS.DiffIDs) != 1 {
		t.Errorf("%+v", img)
	}
	// A tree that was lost is made again of its blob.
	if err := os.RemoveAll(filepath.Dir(lowers[0])); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lowers(img); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(lowers[0], "file")); err != nil || string(b) != "hello" {
		t.Errorf("again: %q, %v", b, err)
	}
}

func TestShortNames(t *testing.T) {
	s := Open(t.TempDir())
	local := importOne(t, s, "localhost/app", "local")
	if got, err := s.Resolve("app"); err != nil || got.ID != local.ID {
		t.Errorf("localhost/app: %v", err)
	}
	hub := importOne(t, s, "app", "from the registry")
	if got, err := s.Resolve("app"); err != nil || got.ID != hub.ID {
		t.Errorf("docker.io/library/app: %v", err)
	}
	_, err := s.Resolve("app:other")
	if !errs.Is(err, errs.NotFound) || !strings.Contains(errs.HintOf(err), "localhost/app:latest") {
		t.Errorf("error %v, hint %q", err, errs.HintOf(err))
	}
	if _, err := s.Resolve("Not/A:Name:"); !errs.Is(err, errs.Invalid) {
		t.Errorf("error %v", err)
	}
}

func TestTagAndList(t *testing.T) {
	s := Open(t.TempDir())
	importOne(t, s, "a", "1")
	if err := s.Tag("a", "host:5000/b/c:d"); err != nil {
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != 1 || strings.Join(list[0].Names, " ") != "docker.io/library/a:latest host:5000/b/c:d" {
		t.Errorf("%+v, %v", list, err)
	}
	if err := s.Tag("a", "x@sha256:"+strings.Repeat("a", 64)); err == nil {
		t.Error("a digest was given as a tag")
	}
}

// What is bad leaves nothing: no blob, no tree, no name.
func TestBadArchives(t *testing.T) {
	root := t.TempDir()
	s := Open(root)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(tarOf(t, map[string]string{"f": strings.Repeat("x", 5000)})); err != nil {
		t.Fatal(err)
	}
	z.Close()
	for name, b := range map[string][]byte{
		"nonsense": []byte(strings.Repeat("nonsense", 200)), "cut": packed.Bytes()[:packed.Len()/2], "cut tar": tarOf(t, map[string]string{"f": strings.Repeat("x", 5000)})[:3000],
	} {
		if _, err := s.Import(bytes.NewReader(b), ImportOptions{Ref: "x"}); err == nil {
			t.Errorf("%s was imported", name)
		}
	}
	_ = filepath.Walk(root, func(path string, fi os.FileInfo, err error) error {
		if err == nil && !fi.IsDir() && filepath.Base(path) != "images.lock" || strings.Contains(path, ".new-") {
			t.Errorf("left behind: %s", path)
		}
		return nil
	})
}

func TestSeedAtOnce(t *testing.T) {
	s := Open(t.TempDir())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := s.SeedDefault(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := s.List()
	if err != nil || len(list) != 1 || list[0].Names[0] != DefaultName {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestSeedTakesThePlaceOfAnEarlierSeed(t *testing.T) {
	s := Open(t.TempDir())
	first, err := s.SeedDefault()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.SeedDefault(); err != nil || again.ID != first.ID || again.Superseded() {
		t.Fatalf("the same version seeds %v, %v", again, err)
	}
	other := &bytes.Buffer{} // what another version may have carried
	w := tar.NewWriter(other)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}), w.Close()); err != nil {
		t.Fatal(err)
	}
	seed := ImportOptions{Ref: DefaultName, Message: first.Config.History[0].Comment, Change: func(c *dockerspec.DockerOCIImage) error {
		c.Config.Labels = first.Config.Config.Labels
		return nil
	}}
	own := seed
	own.Message = "mine"
	for _, test := range []struct {
		options ImportOptions
		stays   bool
	}{{seed, false}, {own, true}} {
		img, err := s.Import(bytes.NewReader(other.Bytes()), test.options)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.SeedDefault()
		if err != nil || (got.ID == img.ID) != test.stays || !test.stays && got.ID != first.ID {
			t.Errorf("%s: %v, %v", test.options.Message, got, err)
		}
	}
}

// What every start does.
func BenchmarkResolve(b *testing.B) {
	s := Open(b.TempDir())
	if _, err := s.SeedDefault(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		img, err := s.Resolve(DefaultName)
		if err == nil {
			_, err = s.Lowers(img)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
