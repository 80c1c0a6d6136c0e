//go:build linux

// Package idrange chooses which users and groups of the host those of a container with a user namespace are.
package idrange

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/linux/spawn"
)

// Range is Size ids of users from UID on, and of groups from GID on: user 0 of the container is UID.
type Range struct{ UID, GID, Size uint32 }

// ordinary is how many ids a container needs: all that 16 bits can name, nobody (65534) included.
const ordinary = 65536

// Parse reads the value of --userns: nil for the host's own ids, and auto for a range that Free finds.
func Parse(mode string) (r *Range, auto bool, err error) {
	switch mode {
	case "", "host":
		return nil, false, nil
	case "auto":
		return nil, true, nil
	case "private":
		uids, gids, err := subordinate()
		if err != nil {
			return nil, false, err
		}
		return &Range{uids[0].Host, gids[0].Host, min(uids[0].Size, gids[0].Size)}, false, nil
	}
	numbers := strings.Split(mode, ":")
	var n [3]uint32
	for i, text := range numbers {
		v, err := strconv.ParseUint(text, 10, 32)
		if err != nil || len(numbers) != 3 {
			return nil, false, errs.Text(errs.Invalid, "invalid userns mode: "+mode).WithHint("host, private, auto, container:NAME, ns:/path, or UID:GID:SIZE")
		}
		n[i] = uint32(v)
	}
	if n[2] == 0 || uint64(max(n[0], n[1]))+uint64(n[2]) > 1<<32 {
		return nil, false, errs.Text(errs.Invalid, fmt.Sprintf("invalid userns mode: %s: no such range of ids", mode))
	}
	return &Range{n[0], n[1], n[2]}, false, nil
}

// Of is the range of a user namespace that is there. One of several ranges has no place in what is told of a container.
func Of(path string) (*Range, error) {
	kind, _ := namespace.ByName("user")
	f, err := namespace.OpenPath(path, kind)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ids, err := spawn.ReadIDs(f)
	if err != nil {
		return nil, err
	}
	if len(ids.Users) != 1 || len(ids.Groups) != 1 || ids.Users[0].Container != 0 || ids.Groups[0].Container != 0 || ids.Users[0].Size != ids.Groups[0].Size {
		return nil, errs.New(errs.Unsupported, "use user namespace "+path, fmt.Errorf("its ids are not one range from 0 on: users %v, groups %v", ids.Users, ids.Groups))
	}
	return &Range{ids.Users[0].Host, ids.Groups[0].Host, ids.Users[0].Size}, nil
}

// subordinate are the ids that this host has set aside for containers.
func subordinate() (uids, gids []namespace.IDMap, err error) {
	for _, user := range []string{"berth", "containers", "root"} {
		uids, gids, err = namespace.SubIDs(user)
		if err == nil && len(uids) > 0 && len(gids) > 0 {
			return uids, gids, nil
		}
	}
	// A host that has set nothing aside: ids that no distribution gives to people or services.
	pool := []namespace.IDMap{{Container: 0, Host: 1 << 24, Size: 1 << 29}}
	return pool, pool, nil
}

// Free finds a range that is apart from those in use.
func Free(inUse []*Range) (*Range, error) {
	uids, _, err := subordinate()
	if err != nil {
		return nil, err
	}
	var used []namespace.IDMap
	for _, r := range inUse {
		used = append(used, namespace.IDMap{Host: r.UID, Size: r.Size})
	}
	first, ok := namespace.FreeRange(uids, used, ordinary)
	if !ok {
		return nil, errs.New(errs.Unavailable, "find ids for a user namespace", errors.New("all subordinate ids are used by other containers")).
			WithHint("give more to the user berth in /etc/subuid and /etc/subgid")
	}
	return &Range{first, first, ordinary}, nil
}
