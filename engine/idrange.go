//go:build linux

package engine

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
	"github.com/berth-containers/berth/linux/namespace"
)

// idRange is which users and groups of the host a container's are, in its user namespace: its user 0 is UID.
type idRange struct {
	UID, GID, Size uint32
}

// ordinary is how many ids a container needs: all that 16 bits can name, nobody (65534) included.
const ordinary = 65536

// findIDRange decides about the container's user namespace. A range of its own is kept apart from those of all other
// containers under a lock.
func (c *Container) findIDRange() error {
	mode := string(c.HostConfig.UsernsMode)
	switch mode {
	case "", "host":
		return nil
	case "private":
		uids, gids, err := subordinate()
		if err != nil {
			return err
		}
		c.IDRange = &idRange{uids[0].Host, gids[0].Host, min(uids[0].Size, gids[0].Size)}
		return nil
	case "auto":
		return c.findFreeRange()
	}
	numbers := strings.Split(mode, ":")
	var n [3]uint32
	for i, text := range numbers {
		v, err := strconv.ParseUint(text, 10, 32)
		if err != nil || len(numbers) != 3 {
			return errs.Text(errs.Invalid, "invalid userns mode: "+mode).WithHint("host, private, auto, or UID:GID:SIZE")
		}
		n[i] = uint32(v)
	}
	if n[2] == 0 || uint64(max(n[0], n[1]))+uint64(n[2]) > 1<<32 {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid userns mode: %s: no such range of ids", mode))
	}
	c.IDRange = &idRange{n[0], n[1], n[2]}
	return nil
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

func (c *Container) findFreeRange() error {
	uids, _, err := subordinate()
	if err != nil {
		return err
	}
	lock, err := flock.Exclusive(filepath.Join(c.e.root, "idranges.lock"))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	all, err := c.e.all()
	if err != nil {
		return err
	}
	var used []namespace.IDMap
	for _, other := range all {
		if r := other.IDRange; r != nil {
			used = append(used, namespace.IDMap{Host: r.UID, Size: r.Size})
		}
	}
	first, ok := namespace.FreeRange(uids, used, ordinary)
	if !ok {
		return errs.New(errs.Unavailable, "find ids for a user namespace", errors.New("all subordinate ids are used by other containers")).
			WithHint("give more to the user berth in /etc/subuid and /etc/subgid")
	}
	c.IDRange = &idRange{first, first, ordinary}
	return c.save() // others see it before the lock is gone
}
