//go:build linux

package engine

import (
	"fmt"
	"os"
	"slices"

	docker "github.com/moby/moby/api/types/mount"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
)

// settleOwners decides whose the files of mounts are: it makes the id maps that were asked for, gives sources away (U),
// and notes where the container's user cannot write what it may.
func (c *Container) settleOwners() error {
	var user *specs.User
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if m.Type != docker.TypeBind && m.Type != docker.TypeVolume {
			continue
		}
		if user == nil {
			u, _, err := c.findUser(c.Process.User, c.HostConfig.GroupAdd)
			if err != nil {
				return nil // the start says it, as without mounts
			}
			user = &u
		}
		if err := c.mapOwners(m, user); err != nil {
			return err
		}
		if m.Own {
			if err := c.giveAway(m, user); err != nil {
				return err
			}
		}
		c.noteUnwritable(m, user)
	}
	return nil
}

// mapOwners makes the maps of a mount. With a user namespace a volume needs one in any case: on disk its files have the
// ids that the container knows, as an image's have.
func (c *Container) mapOwners(m *mountpoint.Point, user *specs.User) error {
	if m.UIDs != nil || m.IDMap == "" && (c.IDRange == nil || m.Type != docker.TypeVolume) {
		return nil
	}
	if m.IDMap == "" {
		if v, err := c.e.volumes.Get(m.Name); err != nil || v.Options["device"] != "" {
			return err // a file system of its own, which may have no maps
		}
		m.UIDs, m.GIDs = c.within(mountpoint.Swap(0, 0), mountpoint.Swap(0, 0))
		return nil
	}
	o, err := m.IDMap.Parse()
	if err != nil {
		return err
	}
	if o.UIDs == nil {
		if o.Auto {
			var st unix.Stat_t
			if err := unix.Stat(m.Source, &st); err != nil {
				return errs.New(errs.Invalid, "use "+m.Source, err)
			}
			o.UID, o.GID = int(st.Uid), int(st.Gid)
		}
		if c.IDRange == nil && uint32(o.UID) == user.UID && uint32(o.GID) == user.GID {
			return nil // it is so already
		}
		o.UIDs, o.GIDs = mountpoint.Swap(uint32(o.UID), user.UID), mountpoint.Swap(uint32(o.GID), user.GID)
	}
	m.UIDs, m.GIDs = c.within(o.UIDs, o.GIDs)
	return nil
}

// within turns maps to the container's ids into maps to the host's.
func (c *Container) within(uids, gids []namespace.IDMap) (u, g []namespace.IDMap) {
	if r := c.IDRange; r != nil {
		return mountpoint.Within(uids, r.UID, r.Size), mountpoint.Within(gids, r.GID, r.Size)
	}
	return uids, gids
}

// onDisk is which id on disk one of the container is.
func onDisk(maps []namespace.IDMap, id, base uint32) (uint32, bool) {
	if len(maps) == 0 {
		return id + base, true
	}
	inverse := make([]namespace.IDMap, len(maps))
	for i, m := range maps {
		inverse[i] = namespace.IDMap{Container: m.Host, Host: m.Container, Size: m.Size}
	}
	return namespace.ToHost(inverse, id+base)
}

// owner is who the container's user is on the disk of a mount.
func (c *Container) owner(m *mountpoint.Point, user *specs.User) (uid, gid uint32, ok bool) {
	var base idRange
	if c.IDRange != nil {
		base = *c.IDRange
	}
	uid, ok1 := onDisk(m.UIDs, user.UID, base.UID)
	gid, ok2 := onDisk(m.GIDs, user.GID, base.GID)
	return uid, gid, ok1 && ok2
}

// giveAway makes the container's user the owner of all that is in a source.
func (c *Container) giveAway(m *mountpoint.Point, user *specs.User) error {
	uid, gid, ok := c.owner(m, user)
	if !ok {
		return errs.Text(errs.Invalid, fmt.Sprintf("give %s to user %d: the id map of the mount does not have it", m.Source, user.UID))
	}
	f, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return errs.New(errs.Invalid, "give "+m.Source+" away", err)
	}
	defer f.Close()
	return errs.Wrap("give "+m.Source+" away", mount.ChownAll(f, int(uid), int(gid)))
}

// noteUnwritable tells what to do when the container's user cannot write to a mount that it may write to. Access lists
// and network file systems decide for themselves: nothing is said of them.
func (c *Container) noteUnwritable(m *mountpoint.Point, user *specs.User) {
	var st unix.Stat_t
	if !m.RW || unix.Stat(m.Source, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	if len(m.UIDs) > 0 && !c.rootOwns(m, st.Uid) { // the kernel writes to no such folder (inode_permission in fs/namei.c)
		c.Notes = append(c.Notes, fmt.Sprintf("nobody in the container can write to %s: on disk %s is %d:%d's, who is not in the mount's id map", m.Destination, m.Source, st.Uid, st.Gid))
		return
	}
	if user.UID == 0 && c.IDRange == nil {
		return
	}
	if n, err := unix.Getxattr(m.Source, "system.posix_acl_access", nil); err == nil && n > 0 {
		return
	}
	uid, gid, ok := c.owner(m, user)
	need := uint32(0o3)
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		need = 0o2
	}
	has := st.Mode & 0o7
	switch {
	case ok && st.Uid == uid, user.UID == 0 && ok && c.rootOwns(m, st.Uid):
		has = st.Mode >> 6 & 0o7
	case ok && (st.Gid == gid || slices.ContainsFunc(user.AdditionalGids, func(g uint32) bool {
		_, disk, ok := c.owner(m, &specs.User{GID: g})
		return ok && disk == st.Gid
	})):
		has = st.Mode >> 3 & 0o7
	}
	if has&need == need {
		return
	}
	c.Notes = append(c.Notes, fmt.Sprintf("user %d:%d of the container cannot write to %s: on disk %s is %d:%d's, mode %o; add idmap=auto to the mount, or give the folder away with U",
		user.UID, user.GID, m.Destination, m.Source, st.Uid, st.Gid, st.Mode&0o7777))
}

// rootOwns reports whether an owner on disk is one of the container's ids: its root may do everything with his files.
func (c *Container) rootOwns(m *mountpoint.Point, uid uint32) bool {
	if len(m.UIDs) > 0 {
		_, ok := namespace.ToHost(m.UIDs, uid)
		return ok
	}
	return uid >= c.IDRange.UID && uid-c.IDRange.UID < c.IDRange.Size
}
