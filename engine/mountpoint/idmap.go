//go:build linux

package mountpoint

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/namespace"
)

// IDMap is what a user asked of a mount's id map, as it stands behind "idmap=":
//
//	auto            who owns the source on disk is the container's user inside, and the other way round
//	owner=UID/GID   the same for this user of the host; the command line makes it of "me", its caller
//	[uids=]A-B-N[#A-B-N…][;gids=…]
//	                N ids from A on, on disk, are those from B on in the container; without gids= for groups, too, and
//	                without N it is 1
type IDMap string

// Owner is whose the files of a --mount shall be, which Docker's API cannot say.
type Owner struct {
	IDMap IDMap `json:",omitempty"`
	Own   bool  `json:",omitempty"` // the source is given to the container's user
}

// Owners says how an id map is made: of whom, or which ranges.
type Owners struct {
	Auto       bool
	UID, GID   int // of the host, with neither Auto nor ranges
	UIDs, GIDs []namespace.IDMap
}

// Parse reads it; the ranges' Host is an id of the container.
func (m IDMap) Parse() (o Owners, err error) {
	text := string(m)
	if text == "" || text == "auto" || text == "true" {
		return Owners{Auto: true}, nil
	}
	bad := errs.Text(errs.Invalid, fmt.Sprintf("invalid idmap: %s", text)).WithHint("auto, me, or uids=ON_DISK-IN_CONTAINER-SIZE[#…];gids=…")
	if owner, ok := strings.CutPrefix(text, "owner="); ok {
		uid, gid, ok := strings.Cut(owner, "/")
		u, e1 := strconv.ParseUint(uid, 10, 31)
		g, e2 := strconv.ParseUint(gid, 10, 31)
		if !ok || e1 != nil || e2 != nil {
			return o, bad
		}
		return Owners{UID: int(u), GID: int(g)}, nil
	}
	for _, part := range strings.Split(text, ";") {
		kind, ranges, named := strings.Cut(part, "=")
		if !named {
			kind, ranges = "uids", part
		}
		maps, ok := parseRanges(ranges)
		switch {
		case !ok:
			return o, bad
		case kind == "uids" && o.UIDs == nil:
			o.UIDs = maps
		case kind == "gids" && o.GIDs == nil:
			o.GIDs = maps
		default:
			return o, bad
		}
	}
	if o.GIDs == nil {
		o.GIDs = o.UIDs
	}
	if o.UIDs == nil {
		return o, bad
	}
	if err := namespace.CheckMaps("user", o.UIDs); err != nil {
		return o, err
	}
	return o, namespace.CheckMaps("group", o.GIDs)
}

func parseRanges(text string) (out []namespace.IDMap, ok bool) {
	for _, r := range strings.Split(text, "#") {
		fields := strings.Split(r, "-")
		if len(fields) == 2 {
			fields = append(fields, "1")
		}
		if len(fields) != 3 {
			return nil, false
		}
		var n [3]uint32
		for i, f := range fields {
			v, err := strconv.ParseUint(f, 10, 32)
			if err != nil {
				return nil, false
			}
			n[i] = uint32(v)
		}
		out = append(out, namespace.IDMap{Container: n[0], Host: n[1], Size: n[2]})
	}
	return out, true
}

// allIDs is how many ids there are: the last number is none (user_namespaces(7)).
const allIDs = 1<<32 - 1

// Swap maps an id on disk to one inside and the other way round, and every other to itself: what the one writes inside
// is the other's on disk.
func Swap(disk, inside uint32) []namespace.IDMap {
	low, high := min(disk, inside), max(disk, inside)
	if low == high {
		return []namespace.IDMap{{Size: allIDs}}
	}
	all := []namespace.IDMap{{Container: 0, Host: 0, Size: low}, {Container: low, Host: high, Size: 1}, {Container: low + 1, Host: low + 1, Size: high - low - 1},
		{Container: high, Host: low, Size: 1}, {Container: high + 1, Host: high + 1, Size: allIDs - high - 1}}
	var out []namespace.IDMap
	for _, m := range all {
		if m.Size > 0 {
			out = append(out, m)
		}
	}
	return out
}

// Within turns maps to ids of a container into maps to ids of the host, for a container whose size ids are those from
// base on. What lies beyond them is not mapped.
func Within(maps []namespace.IDMap, base, size uint32) []namespace.IDMap {
	var out []namespace.IDMap
	for _, m := range maps {
		if m.Host >= size {
			continue
		}
		m.Size = min(m.Size, size-m.Host)
		m.Host += base
		out = append(out, m)
	}
	return out
}
