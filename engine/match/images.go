package match

import (
	"path"
	"slices"
	"strings"

	"github.com/berth-containers/berth/image/reference"
)

// Repository reports whether a name is of a repository, or the very name, that a user wrote.
func Repository(r reference.Reference, want string) bool {
	if want == "" {
		return true
	}
	w, err := reference.Parse(want)
	if err != nil {
		return Patterns(r, []string{want})
	}
	tagged := strings.Contains(want[strings.LastIndexByte(want, '/')+1:], ":")
	same := w.Name() == r.Name() || w.Domain == reference.DefaultDomain && r.Domain == "localhost" && strings.TrimPrefix(w.Path, "library/") == r.Path
	return same && (!tagged || w.Tag == r.Tag)
}

// Patterns reports whether a name fits one of the patterns of the filter reference.
func Patterns(r reference.Reference, patterns []string) bool {
	if len(patterns) == 0 {
		return true
	}
	familiar := r.Familiar()
	bare := strings.TrimSuffix(familiar, ":"+r.Tag)
	return slices.ContainsFunc(patterns, func(p string) bool { return glob(p, familiar) || glob(p, bare) })
}

// glob reports whether a name fits a shell pattern.
func glob(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
