package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/berth-containers/berth"

// A file is one parsed Go file of the tree, whatever system it is for.
type file struct {
	name      string // relative to the module's root, with slashes
	dir       string // the package's path in the module
	test      bool
	generated bool
	text      string
	ast       *ast.File
	set       *token.FileSet
}

func (f *file) line(p token.Pos) int { return f.set.Position(p).Line }

func (f *file) imports() []string {
	var paths []string
	for _, spec := range f.ast.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

const root = "../.."

// tree parses every Go file of the module, once for all tests.
var tree = sync.OnceValues(func() ([]*file, error) {
	var files []*file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && name != root && (base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(base, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		parsed, err := parser.ParseFile(set, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		files = append(files, &file{
			name: relative, dir: path.Dir(relative), test: strings.HasSuffix(base, "_test.go"),
			generated: ast.IsGenerated(parsed), text: string(text), ast: parsed, set: set,
		})
		return nil
	})
	return files, err
})

func files(t *testing.T) []*file {
	t.Helper()
	all, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files found: is %s the module's root?", len(all), root)
	}
	return all
}

// packages are the non-test files by folder, and the folders in order.
func packages(t *testing.T) (map[string][]*file, []string) {
	t.Helper()
	byDir := map[string][]*file{}
	for _, f := range files(t) {
		if !f.test {
			byDir[f.dir] = append(byDir[f.dir], f)
		}
	}
	var dirs []string
	for dir := range byDir {
		dirs = append(dirs, dir)
	}
	sort.Strings(dirs)
	return byDir, dirs
}
