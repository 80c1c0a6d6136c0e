//go:build linux

// Package usage measures what folders take.
package usage

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Usage is what files take. One of several names counts once.
type Usage struct {
	Size  int64 // bytes in files
	Disk  int64 // bytes of the disk that they take, their folders too
	Files int64 // files of all kinds, folders too
}

// Below measures what is below a folder, without what is mounted there. What cannot be read, or goes away meanwhile, is
// left out; only the folder itself has to be there.
func Below(dir string) (u Usage, err error) {
	var top unix.Stat_t
	if err := unix.Stat(dir, &top); err != nil {
		return u, err
	}
	seen := map[uint64]bool{}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		var st unix.Stat_t
		if path == dir {
			return err
		}
		if err != nil || unix.Lstat(path, &st) != nil {
			return nil
		}
		if st.Dev != top.Dev {
			return skip(entry)
		}
		if seen[st.Ino] {
			return nil
		}
		if st.Nlink > 1 && !entry.IsDir() {
			seen[st.Ino] = true
		}
		u.Files++
		u.Disk += st.Blocks * 512
		if !entry.IsDir() {
			u.Size += st.Size
		}
		return nil
	})
	return u, err
}

func skip(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// Disk is how many bytes of the disk a file takes, or a folder with all that is below it, as du(1) counts; 0 when it is
// not there.
func Disk(path string) int64 {
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return 0
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return st.Blocks * 512
	}
	u, _ := Below(path)
	return st.Blocks*512 + u.Disk
}
