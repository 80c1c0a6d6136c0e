//go:build linux

package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// PackOptions of Pack.
type PackOptions struct {
	Upper  bool      // the tree is an overlay's upper folder: what it hides becomes whiteouts
	From   string    // only this file or folder of the tree; "" is all
	As     string    // name in the archive of what From is; "" keeps the names
	Latest time.Time // later times of files become this one; zero: all stay

	Bare bool // what is mounted on the tree stays out: its places are empty
}

// Pack writes a tree as a tar archive: in the order of names, so that the same tree gives the same bytes. dir may change
// while it is read, and hold what a container has written: nothing is looked up outside of it, and nothing but regular
// files is opened.
func Pack(w io.Writer, dir string, o PackOptions) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return errs.Wrap("read tree", err)
	}
	defer root.Close()
	p := &packer{root: root, out: tar.NewWriter(w), PackOptions: o, seen: map[uint64]string{}, buf: make([]byte, 256<<10)}
	from := strings.Trim(path.Clean("/"+o.From), "/")
	if from == "" {
		from = "."
	}
	visit := func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name != from {
			return nil // it went away meanwhile
		}
		if err != nil {
			return err
		}
		fi, err := entry.Info()
		if err != nil {
			return nil
		}
		if name != "." && !p.Upper && (p.Bare || fi.IsDir()) && p.mounted(name) {
			if err := p.place(p.rename(name, from), fi); err != nil || !fi.IsDir() {
				return errs.Wrap("pack "+name, err)
			}
			return fs.SkipDir
		}
		return errs.Wrap("pack "+name, p.add(name, p.rename(name, from), fi))
	}
	if fi, lerr := root.Lstat(from); lerr == nil && !fi.IsDir() { // WalkDir would follow a link
		err = visit(from, fs.FileInfoToDirEntry(fi), nil)
	} else {
		err = fs.WalkDir(root.FS(), from, visit)
	}
	if err == nil {
		err = p.out.Close()
	}
	return errs.Wrap("read tree", err)
}

type packer struct {
	PackOptions
	root *os.Root
	out  *tar.Writer
	seen map[uint64]string // inode → first name, of files with several
	buf  []byte
}

// rename is an entry's name in the archive.
func (p *packer) rename(name, from string) string {
	if p.As == "" {
		return name
	}
	if name == from {
		return p.As
	}
	return path.Join(p.As, strings.TrimPrefix(strings.TrimPrefix(name, from), "/"))
}

// mounted reports whether a mount begins at name that stays out. Those of the kernel's own file systems do always: their
// files are not data, and reading some of them never ends.
func (p *packer) mounted(name string) bool {
	f, err := p.root.OpenFile(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var sx unix.Statx_t
	err = unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_TYPE, &sx)
	if err != nil || sx.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return false
	}
	var st unix.Statfs_t
	return p.Bare || unix.Fstatfs(int(f.Fd()), &st) == nil && slices.Contains(notData, st.Type)
}

var notData = []int64{unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC, mqueueMagic}

const mqueueMagic = 0x19800202 // MQUEUE_MAGIC of the kernel's ipc/mqueue.c

// place writes the empty place of a mount.
func (p *packer) place(as string, fi fs.FileInfo) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: as, Mode: 0o755, ModTime: fi.ModTime(), Format: tar.FormatPAX}
	if !fi.IsDir() {
		return p.out.WriteHeader(h)
	}
	h.Typeflag, h.Name = tar.TypeDir, as+"/"
	return p.out.WriteHeader(h)
}

func (p *packer) add(name, as string, fi fs.FileInfo) error {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("no attributes")
	}
	if p.Upper && IsWhiteout(st.Mode, st.Rdev) {
		return p.out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(path.Dir(as), whiteoutPrefix+path.Base(as)), Mode: 0o600})
	}
	if fi.Mode()&fs.ModeSocket != 0 {
		return nil // no archive has a place for it, and without its process it means nothing
	}
	h := &tar.Header{Name: as, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: p.time(st), Format: tar.FormatPAX, PAXRecords: map[string]string{}}
	switch fi.Mode() & fs.ModeType {
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, as+"/"
	case fs.ModeSymlink:
		target, err := p.root.Readlink(name)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		h.Typeflag = tar.TypeBlock
		if fi.Mode()&fs.ModeCharDevice != 0 {
			h.Typeflag = tar.TypeChar
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return p.file(name, h, st)
	}
	if fi.IsDir() {
		return p.folder(name, h)
	}
	return p.out.WriteHeader(h)
}

// time is a file's, in whole seconds.
func (p *packer) time(st *syscall.Stat_t) time.Time {
	at := time.Unix(st.Mtim.Sec, 0)
	if !p.Latest.IsZero() && at.After(p.Latest) {
		return p.Latest
	}
	return at
}

func (p *packer) file(name string, h *tar.Header, st *syscall.Stat_t) error {
	h.Typeflag = tar.TypeReg
	if st.Nlink > 1 {
		if first, ok := p.seen[st.Ino]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return p.out.WriteHeader(h)
		}
		p.seen[st.Ino] = h.Name
	}
	f, err := p.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return errors.Join(err, errors.New("it has changed meanwhile"))
	}
	h.Size = fi.Size()
	if err := p.attributes(f, h); err != nil {
		return err
	}
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{p.out}, io.LimitReader(f, h.Size), p.buf)
	if err == nil && n < h.Size { // it has become shorter: the header is written, so the rest is zeros
		_, err = io.CopyN(p.out, zeros{}, h.Size-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func (p *packer) folder(name string, h *tar.Header) error {
	f, err := p.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.attributes(f, h); err != nil {
		return err
	}
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	if p.Upper && IsOpaque(f) {
		return p.out.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: h.Name + opaqueMarker, Mode: 0o600})
	}
	return nil
}

// attributes reads the extended attributes that archives keep.
func (p *packer) attributes(f *os.File, h *tar.Header) error {
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(f.Fd()), list)
	if err != nil {
		return nil // the file system has none
	}
	for _, name := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if name == "" || !keeps(name) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(int(f.Fd()), name, value)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
		h.PAXRecords[xattrRecord+name] = string(value[:n])
	}
	return nil
}
