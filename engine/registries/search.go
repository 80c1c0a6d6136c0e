//go:build linux

package registries

import (
	"context"
	"fmt"
	"strconv"

	"github.com/berth-containers/berth/image/registry"
	"github.com/berth-containers/berth/internal/errs"
)

// Hit is a repository that a search found.
type Hit = registry.Hit

// Search finds repositories by a word, at Docker's registry or at that of HOST/WORD: at most limit, from 1 to 100, of which
// those are returned that the filters is-official, is-automated and stars (at least) let through.
func Search(ctx context.Context, term string, limit int, filters map[string][]string) ([]Hit, error) {
	if limit < 1 || limit > 100 {
		return nil, errs.Text(errs.Invalid, fmt.Sprintf("limit %d is outside the range of [1, 100]", limit))
	}
	keep, err := hitFilter(filters)
	if err != nil {
		return nil, err
	}
	found, err := registry.Search(ctx, term, limit)
	var out []Hit
	for _, h := range found {
		if keep(h) {
			out = append(out, h)
		}
	}
	return out, err
}

func hitFilter(filters map[string][]string) (func(Hit) bool, error) {
	var tests []func(Hit) bool
	for key, values := range filters {
		for _, v := range values {
			bad := errs.Text(errs.Invalid, fmt.Sprintf("invalid filter '%s=%s'", key, v))
			want, err := strconv.ParseBool(v)
			switch key {
			case "is-official":
				tests = append(tests, func(h Hit) bool { return h.Official == want })
			case "is-automated":
				tests = append(tests, func(h Hit) bool { return h.Automated == want })
			case "stars":
				var least int
				least, err = strconv.Atoi(v)
				tests = append(tests, func(h Hit) bool { return h.Stars >= least })
			default:
				return nil, errs.Text(errs.Invalid, fmt.Sprintf("invalid filter '%s'", key))
			}
			if err != nil {
				return nil, bad
			}
		}
	}
	return func(h Hit) bool {
		for _, test := range tests {
			if !test(h) {
				return false
			}
		}
		return true
	}, nil
}
