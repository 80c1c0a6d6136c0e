//go:build linux

package idrange

import (
	"testing"

	"github.com/berth-containers/berth/internal/errs"
)

func TestParse(t *testing.T) {
	for mode, want := range map[string]*Range{"": nil, "host": nil, "auto": nil, "5:6:7": {5, 6, 7}, "4294967295:0:1": {1<<32 - 1, 0, 1}} {
		r, auto, err := Parse(mode)
		if err != nil || auto != (mode == "auto") || (r == nil) != (want == nil) || r != nil && *r != *want {
			t.Errorf("%q: %v, %v, %v", mode, r, auto, err)
		}
	}
	for _, mode := range []string{"x", "1:2", "1:2:0", "1:2:3:4", "-1:2:3", "4294967295:0:2", "1::2", "keep-id"} {
		if _, _, err := Parse(mode); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", mode, err)
		}
	}
}

func TestFreeIsApartFromOthers(t *testing.T) {
	var used []*Range
	for range 5 {
		r, err := Free(used)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range used {
			if r.UID < o.UID+o.Size && o.UID < r.UID+r.Size {
				t.Errorf("%v and %v overlap", r, o)
			}
		}
		used = append(used, r)
	}
}
