//go:build linux

package mountpoint

import (
	"testing"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/namespace"
)

func TestIDMapParse(t *testing.T) {
	for _, bad := range []string{"x", "owner=1", "owner=a/b", "uids=1", "uids=1-2-0", "1-2-3#1-5-9", "gids=1-2-3", "uids=1-2;uids=3-4", "uids=1-2;x=3-4", "0-0-4294967296", "1-2-3-4", "owner=-1/0"} {
		if o, err := IDMap(bad).Parse(); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %+v, %v", bad, o, err)
		}
	}
	o, err := IDMap("uids=1000-0-1#1001-33-2;gids=100-0").Parse()
	if err != nil || len(o.UIDs) != 2 || o.UIDs[1] != (namespace.IDMap{Container: 1001, Host: 33, Size: 2}) || o.GIDs[0] != (namespace.IDMap{Container: 100, Host: 0, Size: 1}) {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := IDMap("owner=1000/100").Parse(); err != nil || o.UID != 1000 || o.GID != 100 || o.Auto {
		t.Errorf("%+v, %v", o, err)
	}
}

// Whatever is swapped, the kernel's rules hold, each id has one place, and only two have moved.
func TestSwapAndWithin(t *testing.T) {
	for _, c := range [][2]uint32{{0, 0}, {0, 1000}, {1000, 0}, {1000, 999}, {7, 7}, {1 << 31, 5}, {allIDs - 1, 0}} {
		maps := Swap(c[0], c[1])
		if err := namespace.CheckMaps("user", maps); err != nil {
			t.Errorf("%v: %v", c, err)
		}
		for id, want := range map[uint32]uint32{c[0]: c[1], c[1]: c[0], 42: 42, allIDs - 2: allIDs - 2} {
			if got, ok := namespace.ToHost(maps, id); !ok || got != want {
				t.Errorf("%v: %d is %d, want %d", c, id, got, want)
			}
		}
		in := Within(maps, 100000, 65536)
		if c[0] < 65536 && c[1] < 65536 {
			if got, ok := namespace.ToHost(in, c[0]); !ok || got != 100000+c[1] {
				t.Errorf("%v within: %d", c, got)
			}
		}
		if got, ok := namespace.ToHost(in, 65536); ok && c[0] != 65536 {
			t.Errorf("%v: an id beyond the range is %d", c, got)
		}
	}
}
