//go:build linux

package mount

import (
	"os"

	"golang.org/x/sys/unix"
)

// ChownAll changes the owner of a folder or file and of everything below it on the same file system. Links are changed
// themselves and never followed.
func ChownAll(f *os.File, uid, gid int) error {
	err := eachBelow(f, func(dir *os.File, name string, st *unix.Stat_t) error {
		if int(st.Uid) == uid && int(st.Gid) == gid {
			return nil
		}
		return unix.Fchownat(int(dir.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return err
	}
	return Chown(f, uid, gid)
}

// LabelAll gives a folder or file and everything below it on the same file system a context of SELinux. Links are labelled
// themselves and never followed. A file system that has no labels stays as it is.
func LabelAll(f *os.File, label string) error {
	set := func(err error) error {
		if err == unix.EOPNOTSUPP {
			return nil
		}
		return err
	}
	const attribute = "security.selinux"
	err := eachBelow(f, func(dir *os.File, name string, _ *unix.Stat_t) error {
		return set(unix.Lsetxattr(HandlePath(dir)+"/"+name, attribute, []byte(label), 0))
	})
	if err != nil {
		return err
	}
	return set(unix.Setxattr(HandlePath(f), attribute, []byte(label), 0))
}

// eachBelow calls fn for all that is below a folder on the same file system, as an entry of an open folder, what is in a
// folder before the folder. What vanishes meanwhile is passed over; of a file nothing is below.
func eachBelow(f *os.File, fn func(dir *os.File, name string, st *unix.Stat_t) error) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	dir, err := openAt(f, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer dir.Close()
	return eachEntry(dir, uint64(st.Dev), fn)
}

func eachEntry(dir *os.File, dev uint64, fn func(dir *os.File, name string, st *unix.Stat_t) error) error {
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
				err = eachEntry(below, dev, fn)
				below.Close()
			}
		}
		if err == nil {
			err = fn(dir, name, &st)
		}
		if err != nil && err != unix.ENOENT {
			return &os.PathError{Op: "change", Path: dir.Name() + "/" + name, Err: err}
		}
	}
	return nil
}
