//go:build linux

package layer

import "github.com/berth-containers/berth/linux/usage"

// Size adds up the bytes of the files below a folder, each of several names once. What cannot be read is left out.
func Size(dir string) int64 {
	u, _ := usage.Below(dir)
	return u.Size
}
