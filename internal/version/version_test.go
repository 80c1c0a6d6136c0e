package version

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The linker sets a variable by its full name; a renamed one would be left empty without a word.
func TestLinkerSetsTheVersion(t *testing.T) {
	const source = `package main

import "github.com/berth-containers/berth/internal/version"

func main() { print(version.String()) }
`
	// The program lies in the module for the compiler alone.
	dir := t.TempDir()
	real, overlay := filepath.Join(dir, "main.go"), filepath.Join(dir, "overlay.json")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, "probe", "main.go"): real}})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{real: []byte(source), overlay: replace} {
		if err := os.WriteFile(name, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	const variable = "github.com/berth-containers/berth/internal/version.stamp"
	if !strings.Contains(string(makefile), "$(MODULE)/internal/version.stamp=") {
		t.Fatal("the Makefile does not set the version")
	}
	program := filepath.Join(dir, "program")
	build := exec.Command("go", "build", "-buildvcs=false", "-overlay", overlay, "-ldflags", "-X "+variable+"=1.2.3",
		"-o", program, "./probe")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command(program).CombinedOutput(); err != nil || string(out) != "1.2.3" {
		t.Errorf("the program says %q; %v", out, err)
	}
}
