//go:build linux

package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
)

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	opaqueXattr    = "trusted.overlay.opaque"
	xattrRecord    = "SCHILY.xattr."
)

// IsWhiteout reports whether a file of an overlay's folder, by its stat(2), hides what lies below it.
func IsWhiteout(mode uint32, rdev uint64) bool {
	return mode&unix.S_IFMT == unix.S_IFCHR && rdev == 0
}

// IsOpaque reports whether an open folder of an overlay hides what the folders below it hold.
func IsOpaque(folder *os.File) bool {
	value := make([]byte, 1)
	n, err := unix.Fgetxattr(int(folder.Fd()), opaqueXattr, value)
	return err == nil && n == 1 && value[0] == 'y'
}

// Limits bound what an archive may become; 0 is Docker-like generosity.
type Limits struct {
	Bytes   int64 // of all files together
	Entries int64
	Plain   bool // the archive is no layer: a name that begins with .wh. is one as any other
}

const (
	mostBytes   = 256 << 30
	mostEntries = 20_000_000
)

// Apply unpacks a layer, a tar stream that is not compressed, into the empty folder dir, and returns how many bytes its
// files have. On an error dir holds a part; the caller removes it.
func Apply(r io.Reader, dir string, l Limits) (size int64, err error) {
	if l.Bytes == 0 {
		l.Bytes = mostBytes
	}
	if l.Entries == 0 {
		l.Entries = mostEntries
	}
	root, err := mount.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	a := &applier{root: root, limits: l, buf: make([]byte, 256<<10)}
	defer a.forgetParent()
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a.size, errs.New(errs.Invalid, "read layer", err)
		}
		if err := a.entry(h, in); err != nil {
			return a.size, errs.Wrap("unpack "+h.Name, err)
		}
	}
	// A folder's time changes with what is put in it, so it comes last, the deepest first.
	for i := len(a.folders) - 1; i >= 0; i-- {
		if err := a.setFolderTime(a.folders[i]); err != nil {
			return a.size, err
		}
	}
	return a.size, nil
}

type applier struct {
	root    *mount.Root
	limits  Limits
	size    int64
	entries int64
	folders []folderTime
	buf     []byte

	parent     *os.File // the folder of the entry before, because most have the same
	parentName string
}

type folderTime struct {
	name string
	at   time.Time
}

func (a *applier) forgetParent() {
	if a.parent != nil {
		a.parent.Close()
		a.parent = nil
	}
}

// folder opens the folder that an entry lies in, and makes it if the archive has left it out.
func (a *applier) folder(name string) (*os.File, error) {
	if a.parent != nil && a.parentName == name {
		return a.parent, nil
	}
	f, err := a.root.MkdirAll(name, 0o755)
	if err != nil {
		return nil, err
	}
	a.forgetParent()
	a.parent, a.parentName = f, name
	return f, nil
}

func (a *applier) entry(h *tar.Header, content io.Reader) error {
	if a.entries++; a.entries > a.limits.Entries {
		return errs.New(errs.Invalid, "", fmt.Errorf("the layer has more than %d entries", a.limits.Entries))
	}
	name := path.Clean("/" + h.Name)
	if name == "/" {
		if h.Typeflag != tar.TypeDir {
			return errs.New(errs.Invalid, "", errors.New("the root of a layer is no folder"))
		}
		a.folders = append(a.folders, folderTime{"/", h.ModTime})
		return a.attributes(a.root.Dir(), ".", h)
	}
	if strings.ContainsRune(name, 0) {
		return errs.New(errs.Invalid, "", errors.New("a name with a NUL byte"))
	}
	dir, err := a.folder(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if rest, ok := strings.CutPrefix(base, whiteoutPrefix); ok && !a.limits.Plain {
		return a.whiteout(dir, rest, base)
	}
	if err := a.makeRoom(dir, base, name, h.Typeflag == tar.TypeDir); err != nil {
		return err
	}
	if err := a.make(dir, base, name, h, content); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		return nil // it is another name of a file that has its attributes
	}
	return a.attributes(dir, base, h)
}

func (a *applier) whiteout(dir *os.File, hidden, base string) error {
	if base == opaqueMarker {
		return unix.Setxattr(mount.HandlePath(dir)+"/.", opaqueXattr, []byte("y"), 0)
	}
	if strings.HasPrefix(hidden, ".wh.") {
		return nil // aufs's own files: they mean nothing to others
	}
	if hidden == "" || hidden == "." || hidden == ".." {
		return errs.New(errs.Invalid, "", errors.New("a whiteout of nothing"))
	}
	if err := removeAt(dir, hidden); err != nil {
		return err
	}
	return unix.Mknodat(int(dir.Fd()), hidden, unix.S_IFCHR, 0)
}

// makeRoom removes what an earlier entry of the layer has put there, but keeps a folder for a folder.
func (a *applier) makeRoom(dir *os.File, base, name string, folder bool) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT || err == nil && folder && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		a.parentName = "" // what is open may lie below
	}
	return removeAt(dir, base)
}

// make makes the entry itself.
func (a *applier) make(dir *os.File, base, name string, h *tar.Header, content io.Reader) error {
	fd := int(dir.Fd())
	switch h.Typeflag {
	case tar.TypeDir:
		a.folders = append(a.folders, folderTime{name, h.ModTime})
		if err := unix.Mkdirat(fd, base, 0o755); err != nil && err != unix.EEXIST {
			return err
		}
		return nil
	case tar.TypeReg, tar.TypeRegA, tar.TypeGNUSparse: //nolint:staticcheck // old archives have TypeRegA
		return a.file(fd, base, h, content)
	case tar.TypeSymlink:
		return unix.Symlinkat(h.Linkname, fd, base)
	case tar.TypeLink:
		return a.hardlink(fd, base, h.Linkname)
	case tar.TypeChar:
		return unix.Mknodat(fd, base, unix.S_IFCHR, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	case tar.TypeBlock:
		return unix.Mknodat(fd, base, unix.S_IFBLK, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	case tar.TypeFifo:
		return unix.Mknodat(fd, base, unix.S_IFIFO, 0)
	}
	return errs.New(errs.Invalid, "", fmt.Errorf("an entry of the unknown type %q", h.Typeflag))
}

func (a *applier) file(dir int, base string, h *tar.Header, content io.Reader) error {
	if a.size += h.Size; h.Size < 0 || a.size > a.limits.Bytes {
		return errs.New(errs.Invalid, "", fmt.Errorf("the layer has more than %d bytes", a.limits.Bytes))
	}
	fd, err := unix.Openat(dir, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, content, a.buf)
	if err == nil && n != h.Size {
		err = errs.New(errs.Invalid, "", fmt.Errorf("the layer ends in the middle of it"))
	}
	return err
}

// hardlink gives a file of this layer another name.
func (a *applier) hardlink(dir int, base, target string) error {
	f, err := a.root.Open(target, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return errs.New(errs.Invalid, "", fmt.Errorf("link to %s: %w", target, err))
	}
	defer f.Close()
	return unix.Linkat(int(f.Fd()), "", dir, base, unix.AT_EMPTY_PATH)
}

// attributes gives an entry its owner, mode, extended attributes and time. The owner comes first: changing it takes
// set-user-ID bits and capabilities away.
func (a *applier) attributes(dir *os.File, base string, h *tar.Header) error {
	fd := int(dir.Fd())
	if err := unix.Fchownat(fd, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink {
		mode := uint32(h.Mode) & 0o7777
		if err := unix.Fchmodat(fd, base, mode, 0); err != nil {
			return err
		}
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok || !keeps(name) {
			continue
		}
		err := unix.Lsetxattr(mount.HandlePath(dir)+"/"+base, name, []byte(value), 0)
		if err == unix.ENOTSUP || err == unix.EPERM && !strings.HasPrefix(name, "security.") {
			continue // the file system or the kind of file has none such: the data are there
		}
		if err != nil {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	if h.Typeflag == tar.TypeDir {
		return nil
	}
	return setTime(fd, base, h.ModTime)
}

// keeps says which extended attributes of an archive are taken: those of overlayfs would make the kernel look for files
// elsewhere, and those of SELinux are the host's own.
func keeps(name string) bool {
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") || name == "security.capability" ||
		strings.HasPrefix(name, "system.posix_acl_")
}

func setTime(dir int, base string, at time.Time) error {
	ts := unix.NsecToTimespec(at.UnixNano())
	if at.Before(time.Unix(0, 0)) {
		ts = unix.Timespec{}
	}
	return unix.UtimesNanoAt(dir, base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

func (a *applier) setFolderTime(f folderTime) error {
	dir, err := a.root.Open(path.Dir(f.name), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil // a later entry has replaced it
	}
	defer dir.Close()
	base := path.Base(f.name)
	if f.name == "/" {
		base = "."
	}
	err = setTime(int(dir.Fd()), base, f.at)
	if err == unix.ENOENT {
		return nil
	}
	return errs.Wrap("set time of "+f.name, err)
}

// removeAt removes an entry of a folder with all that is below it, never following a link.
func removeAt(dir *os.File, base string) error {
	r, err := os.OpenRoot(mount.HandlePath(dir))
	if err != nil {
		return err
	}
	defer r.Close()
	return r.RemoveAll(base)
}
