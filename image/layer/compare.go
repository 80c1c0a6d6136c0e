//go:build linux

package layer

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
)

// Change is one difference of two trees, in Docker's words.
type Change struct {
	Kind string // A added, C changed, D deleted
	Path string // below the root, with a leading slash
	What string `json:"-"` // of a changed one: what differs first ("mode", "content", …)
}

// Compare lists what leads from one tree to another, in the order of paths: each added file, of deleted folders only the
// uppermost. A folder has changed when its attributes differ, or names were added to it or deleted from it; its time
// says nothing. Of files size, content, type, mode, owner, time, link target, device, extended attributes and hard
// links count. Nothing is followed out of the trees, which nobody may change meanwhile.
func Compare(before, after string) ([]Change, error) {
	a, err := os.Open(before)
	if err != nil {
		return nil, errs.Wrap("compare trees", err)
	}
	defer a.Close()
	b, err := os.Open(after)
	if err != nil {
		return nil, errs.Wrap("compare trees", err)
	}
	defer b.Close()
	c := &comparer{links: [2]map[uint64]string{{}, {}}, buffers: [2][]byte{make([]byte, 256<<10), make([]byte, 256<<10)}}
	var sides [2]unix.Stat_t
	for i, f := range []*os.File{a, b} {
		if err := unix.Fstat(int(f.Fd()), &sides[i]); err != nil {
			return nil, errs.Wrap("compare trees", err)
		}
	}
	if err := c.both(a, b, ".", "/", &sides); err != nil {
		return nil, errs.Wrap("compare trees", err)
	}
	slices.SortFunc(c.out, func(x, y Change) int { return strings.Compare(x.Path, y.Path) })
	return c.out, nil
}

type comparer struct {
	out     []Change
	links   [2]map[uint64]string // inode → first path, of files with several names
	buffers [2][]byte
}

func (c *comparer) add(kind, at, what string) { c.out = append(c.out, Change{kind, at, what}) }

// namesOf lists two folders: what is in both, and in one alone.
func namesOf(a, b *os.File) (common, onlyA, onlyB []string, err error) {
	inA, err := a.Readdirnames(-1)
	if err != nil {
		return nil, nil, nil, err
	}
	inB, err := b.Readdirnames(-1)
	if err != nil {
		return nil, nil, nil, err
	}
	have := map[string]bool{}
	for _, name := range inA {
		have[name] = true
	}
	for _, name := range inB {
		if have[name] {
			common = append(common, name)
			delete(have, name)
		} else {
			onlyB = append(onlyB, name)
		}
	}
	slices.Sort(common)
	return common, slices.Sorted(maps.Keys(have)), onlyB, nil
}

// folder compares what two folders hold, and reports whether names were added or deleted.
func (c *comparer) folder(a, b *os.File, at string) (changed bool, err error) {
	common, onlyA, onlyB, err := namesOf(a, b)
	if err != nil {
		return false, err
	}
	for _, name := range onlyA {
		c.add("D", path.Join(at, name), "")
	}
	for _, name := range onlyB {
		if err := c.added(b, name, path.Join(at, name)); err != nil {
			return false, err
		}
	}
	for _, name := range common {
		var sides [2]unix.Stat_t
		for i, dir := range []*os.File{a, b} {
			if err := unix.Fstatat(int(dir.Fd()), name, &sides[i], unix.AT_SYMLINK_NOFOLLOW); err != nil {
				return false, err
			}
		}
		if err := c.both(a, b, name, path.Join(at, name), &sides); err != nil {
			return false, err
		}
	}
	return len(onlyA)+len(onlyB) > 0, nil
}

// added lists an entry that is on the second side alone, and what is below it.
func (c *comparer) added(dir *os.File, name, at string) error {
	c.add("A", at, "")
	return c.below(dir, name, at)
}

func (c *comparer) below(dir *os.File, name, at string) error {
	f, err := openFolder(dir, name)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	inside, err := f.Readdirnames(-1)
	for _, n := range inside {
		if err == nil {
			err = c.added(f, n, path.Join(at, n))
		}
	}
	return err
}

func openFolder(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// both compares an entry that is on both sides.
func (c *comparer) both(a, b *os.File, name, at string, sides *[2]unix.Stat_t) error {
	was, is := sides[0].Mode&unix.S_IFMT, sides[1].Mode&unix.S_IFMT
	if was != is {
		c.add("C", at, "kind of file")
		return c.below(b, name, at)
	}
	what, err := c.differs(a, b, name, at, sides)
	if err != nil {
		return err
	}
	if is == unix.S_IFDIR {
		fa, err := openFolder(a, name)
		if err != nil {
			return err
		}
		defer fa.Close()
		fb, err := openFolder(b, name)
		if err != nil {
			return err
		}
		defer fb.Close()
		changed, err := c.folder(fa, fb, at)
		if err != nil {
			return err
		}
		if changed && what == "" {
			what = "names"
		}
	}
	if what != "" && (at != "/" || what != "names") {
		c.add("C", at, what)
	}
	return nil
}

// differs says what differs of two entries of one kind; "" is nothing.
func (c *comparer) differs(a, b *os.File, name, at string, sides *[2]unix.Stat_t) (string, error) {
	x, y := &sides[0], &sides[1]
	kind := x.Mode & unix.S_IFMT
	switch {
	case x.Mode != y.Mode:
		return "mode", nil
	case x.Uid != y.Uid || x.Gid != y.Gid:
		return "owner", nil
	case x.Rdev != y.Rdev:
		return "device", nil
	case kind != unix.S_IFDIR && x.Size != y.Size:
		return "size", nil
	case kind != unix.S_IFDIR && c.first(0, x, at) != c.first(1, y, at):
		return "links", nil
	case kind != unix.S_IFDIR && !IsWhiteout(x.Mode, x.Rdev) && x.Mtim != y.Mtim: // of a whiteout it says nothing
		return "time", nil
	case x.Ino == y.Ino && x.Ctim == y.Ctim:
		return "", nil // the same file of a layer that both have
	}
	if kind == unix.S_IFLNK {
		ta, err := os.Readlink(mount.HandlePath(a) + "/" + name)
		if err != nil {
			return "", err
		}
		if tb, err := os.Readlink(mount.HandlePath(b) + "/" + name); err != nil || ta != tb {
			return "target", err
		}
	}
	ma, err := attributesOf(a, name)
	if err != nil {
		return "", err
	}
	mb, err := attributesOf(b, name)
	if err != nil {
		return "", err
	}
	if !maps.Equal(ma, mb) {
		return "attributes", nil
	}
	if kind != unix.S_IFREG {
		return "", nil
	}
	same, err := c.sameContent(a, b, name)
	if err == nil && !same {
		return "content", nil
	}
	return "", err
}

// first is the first path at which a file was seen that has several names.
func (c *comparer) first(side int, st *unix.Stat_t, at string) string {
	if st.Nlink < 2 {
		return ""
	}
	if _, ok := c.links[side][st.Ino]; !ok {
		c.links[side][st.Ino] = at
	}
	return c.links[side][st.Ino]
}

// attributesOf reads the extended attributes that layers have, those of whiteouts included.
func attributesOf(dir *os.File, name string) (map[string]string, error) {
	file := mount.HandlePath(dir) + "/" + name
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(file, list)
	if err == unix.ENOTSUP || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, key := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if !keeps(key) && key != opaqueXattr {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(file, key, value)
		if err != nil {
			return nil, err
		}
		out[key] = string(value[:n])
	}
	return out, nil
}

func (c *comparer) sameContent(a, b *os.File, name string) (bool, error) {
	var files [2]*os.File
	for i, dir := range []*os.File{a, b} {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return false, err
		}
		files[i] = os.NewFile(uintptr(fd), name)
		defer files[i].Close()
	}
	for {
		n, errA := io.ReadFull(files[0], c.buffers[0])
		m, errB := io.ReadFull(files[1], c.buffers[1])
		if n != m || !bytes.Equal(c.buffers[0][:n], c.buffers[1][:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			return true, errors.Join(butEnd(errA), butEnd(errB))
		}
	}
}

// butEnd leaves of an error what is not a file's end.
func butEnd(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}
