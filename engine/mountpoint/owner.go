//go:build linux

package mountpoint

import (
	"fmt"
	"os"
	"slices"

	docker "github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine/idrange"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
)

// User is who a container's program is, inside.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Range    *idrange.Range // which ids of the host the container's are; nil: the same
}

// Settle decides whose the files of a bind mount or volume are: it makes the id maps that were asked for, gives the source
// away (U), and returns what there is to say when the user cannot write what it may. In a container with a user namespace
// a volume on our own disk is always mapped: its files have the ids there that the container knows, as an image's have.
func (m *Point) Settle(user *User, ownDisk bool) (note string, err error) {
	if m.Type != docker.TypeBind && m.Type != docker.TypeVolume {
		return "", nil
	}
	if err := m.mapOwners(user, ownDisk); err != nil {
		return "", err
	}
	if m.Own {
		if err := m.giveAway(user); err != nil {
			return "", err
		}
	}
	return m.unwritable(user), nil
}

func (m *Point) mapOwners(user *User, ownDisk bool) error {
	if m.UIDs != nil || m.IDMap == "" && (user.Range == nil || !ownDisk) {
		return nil
	}
	if m.IDMap == "" {
		m.UIDs, m.GIDs = user.within(Swap(0, 0), Swap(0, 0))
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
		if user.Range == nil && uint32(o.UID) == user.UID && uint32(o.GID) == user.GID {
			return nil // it is so already
		}
		o.UIDs, o.GIDs = Swap(uint32(o.UID), user.UID), Swap(uint32(o.GID), user.GID)
	}
	m.UIDs, m.GIDs = user.within(o.UIDs, o.GIDs)
	return nil
}

// within turns maps to the container's ids into maps to the host's.
func (u *User) within(uids, gids []namespace.IDMap) (_, _ []namespace.IDMap) {
	if r := u.Range; r != nil {
		return Within(uids, r.UID, r.Size), Within(gids, r.GID, r.Size)
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
func (m *Point) owner(user *User) (uid, gid uint32, ok bool) {
	var base idrange.Range
	if user.Range != nil {
		base = *user.Range
	}
	uid, ok1 := onDisk(m.UIDs, user.UID, base.UID)
	gid, ok2 := onDisk(m.GIDs, user.GID, base.GID)
	return uid, gid, ok1 && ok2
}

// giveAway makes the container's user the owner of all that is in a source.
func (m *Point) giveAway(user *User) error {
	uid, gid, ok := m.owner(user)
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

// unwritable tells what to do when the container's user cannot write to a mount that it may write to. Access lists
// and network file systems decide for themselves: nothing is said of them.
func (m *Point) unwritable(user *User) string {
	var st unix.Stat_t
	if !m.RW || unix.Stat(m.Source, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Mode&unix.S_IFMT != unix.S_IFREG {
		return ""
	}
	if len(m.UIDs) > 0 && !m.rootOwns(user, st.Uid) { // the kernel writes to no such folder (inode_permission in fs/namei.c)
		return fmt.Sprintf("nobody in the container can write to %s: on disk %s is %d:%d's, who is not in the mount's id map", m.Destination, m.Source, st.Uid, st.Gid)
	}
	if user.UID == 0 && user.Range == nil {
		return ""
	}
	if n, err := unix.Getxattr(m.Source, "system.posix_acl_access", nil); err == nil && n > 0 {
		return ""
	}
	uid, gid, ok := m.owner(user)
	need := uint32(0o3)
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		need = 0o2
	}
	has := st.Mode & 0o7
	switch {
	case ok && st.Uid == uid, user.UID == 0 && ok && m.rootOwns(user, st.Uid):
		has = st.Mode >> 6 & 0o7
	case ok && (st.Gid == gid || slices.ContainsFunc(user.Groups, func(g uint32) bool {
		_, disk, ok := m.owner(&User{GID: g, Range: user.Range})
		return ok && disk == st.Gid
	})):
		has = st.Mode >> 3 & 0o7
	}
	if has&need == need {
		return ""
	}
	return fmt.Sprintf("user %d:%d of the container cannot write to %s: on disk %s is %d:%d's, mode %o; add idmap=auto to the mount, or give the folder away with U",
		user.UID, user.GID, m.Destination, m.Source, st.Uid, st.Gid, st.Mode&0o7777)
}

// rootOwns reports whether an owner on disk is one of the container's ids: its root may do everything with his files.
func (m *Point) rootOwns(user *User, uid uint32) bool {
	if len(m.UIDs) > 0 {
		_, ok := namespace.ToHost(m.UIDs, uid)
		return ok
	}
	return uid >= user.Range.UID && uid-user.Range.UID < user.Range.Size
}
