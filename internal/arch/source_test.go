package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

const (
	longestFunction = 80   // lines, from func to its closing brace
	largestPackage  = 6000 // lines without tests and generated files
	largestMap      = 32   // entries of a map that is built when a program starts
)

func TestFunctionsAreShort(t *testing.T) {
	for _, f := range files(t) {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > longestFunction {
					t.Errorf("%s:%d: %s has %d lines, %d are allowed", f.name, f.line(fn.Pos()), fn.Name.Name, n, longestFunction)
				}
			}
		}
	}
}

func TestPackagesAreSmall(t *testing.T) {
	byDir, dirs := packages(t)
	for _, dir := range dirs {
		n := 0
		for _, f := range byDir[dir] {
			if !f.generated {
				n += strings.Count(f.text, "\n")
			}
		}
		if n > largestPackage {
			t.Errorf("%s has %d lines, %d are allowed", dir, n, largestPackage)
		}
	}
}

func TestPackagesHaveAPurposeAndAComment(t *testing.T) {
	vague := map[string]bool{"util": true, "utils": true, "common": true, "helpers": true, "misc": true, "base": true}
	byDir, dirs := packages(t)
	for _, dir := range dirs {
		comments, name := 0, byDir[dir][0].ast.Name.Name
		for _, f := range byDir[dir] {
			if f.ast.Doc.Text() != "" {
				comments++
			}
		}
		if comments != 1 {
			t.Errorf("%s has %d package comments", dir, comments)
		}
		if vague[name] {
			t.Errorf("%s: the name %s says nothing", dir, name)
		}
	}
}

// What stands in main is whole: no marks for later, no code that only says that it does not work.
func TestNothingIsLeftForLater(t *testing.T) {
	later := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b|not ` + `(yet )?implemented`)
	for _, f := range files(t) {
		for i, line := range strings.Split(f.text, "\n") {
			if found := later.FindString(line); found != "" {
				t.Errorf("%s:%d: %s", f.name, i+1, found)
			}
		}
	}
}

// A container's start is three process starts, so what a package does before main is paid by everyone, each time.
func TestPackagesDoNothingAtStart(t *testing.T) {
	for _, f := range files(t) {
		if f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			if within(f.dir, "cmd") && isInit(decl) {
				continue // a program decides what its main thread is for before main
			}
			for _, finding := range startWork(decl) {
				t.Errorf("%s:%d: %s", f.name, f.line(finding.at), finding.what)
			}
		}
	}
}

type finding struct {
	at   token.Pos
	what string
}

func isInit(decl ast.Decl) bool {
	fn, ok := decl.(*ast.FuncDecl)
	return ok && fn.Recv == nil && fn.Name.Name == "init"
}

// startWork finds what a declaration does before main.
func startWork(decl ast.Decl) []finding {
	if isInit(decl) {
		return []finding{{decl.Pos(), "init runs at every start: do it where it is needed"}}
	}
	general, ok := decl.(*ast.GenDecl)
	if !ok || general.Tok != token.VAR {
		return nil
	}
	var found []finding
	ast.Inspect(general, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false // runs later
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && (pkg.Name == "regexp" || pkg.Name == "template") && n.Sel.IsExported() {
				if strings.HasPrefix(n.Sel.Name, "Must") || strings.HasPrefix(n.Sel.Name, "Compile") {
					found = append(found, finding{n.Pos(), pkg.Name + "." + n.Sel.Name + " at start: use sync.OnceValue"})
				}
			}
		case *ast.CompositeLit:
			if _, ok := n.Type.(*ast.MapType); ok && len(n.Elts) > largestMap {
				found = append(found, finding{n.Pos(), fmt.Sprintf("a map of %d entries is built at start: use a switch "+
					"or a sorted slice", len(n.Elts))})
			}
		}
		return true
	})
	return found
}
