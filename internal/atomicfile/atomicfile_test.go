package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteReplacesWholeAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, d := range []Durability{Fast, Durable} {
		if err := WriteJSON(path, map[string]int{"a": 1}, d); err != nil {
			t.Fatal(err)
		}
	}
	var got map[string]int
	if err := ReadJSON(path, &got); err != nil || got["a"] != 1 {
		t.Fatalf("read %v, %v", got, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", fi.Mode(), err)
	}
	// A rename that fails (a folder stands in the way) must leave no temporary file.
	if err := os.MkdirAll(filepath.Join(dir, "busy", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "busy"), []byte("x"), 0o600, Fast); err == nil {
		t.Fatal("a folder was replaced by a file")
	}
	es, err := os.ReadDir(dir)
	if err != nil || len(es) != 2 {
		t.Fatalf("left in the folder: %v, %v", es, err)
	}
}

func TestReadJSONSaysWhichFileIsDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.json")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var pe *fs.PathError
	if err := ReadJSON(path, new(int)); !errors.As(err, &pe) || pe.Path != path {
		t.Fatalf("error %v does not name the file", err)
	}
}
