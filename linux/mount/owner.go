//go:build linux

package mount

import (
	"os"

	"golang.org/x/sys/unix"
)

// ChownAll changes the owner of a folder or file and of everything below it on the same file system. Links are changed
// themselves and never followed.
func ChownAll(f *os.File, uid, gid int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		dir, err := openAt(f, ".", unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer dir.Close()
		if err := chownEntries(dir, uint64(st.Dev), uid, gid); err != nil {
			return err
		}
	}
	return Chown(f, uid, gid)
}

func chownEntries(dir *os.File, dev uint64, uid, gid int) error {
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		var st unix.Stat_t
		err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT || err == nil && uint64(st.Dev) != dev {
			continue
		}
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			var below *os.File
			if below, err = openAt(dir, name, unix.O_RDONLY|unix.O_DIRECTORY); err == nil {
				err = chownEntries(below, dev, uid, gid)
				below.Close()
			}
		}
		if err == nil && (int(st.Uid) != uid || int(st.Gid) != gid) {
			err = unix.Fchownat(int(dir.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
		}
		if err != nil && err != unix.ENOENT {
			return &os.PathError{Op: "chown", Path: dir.Name() + "/" + name, Err: err}
		}
	}
	return nil
}
