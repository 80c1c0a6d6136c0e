//go:build linux

package layer

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Size adds up the bytes of the files below a folder, each of several names once. What cannot be read is left out.
func Size(dir string) (total int64) {
	seen := map[uint64]bool{}
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil && !seen[st.Ino] {
			total += st.Size
			if st.Nlink > 1 {
				seen[st.Ino] = true
			}
		}
		return nil
	})
	return total
}
