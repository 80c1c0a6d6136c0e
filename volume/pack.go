//go:build linux

package volume

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
)

// Pack writes a folder as a tar archive that loses nothing: owners, modes, times to the nanosecond, extended attributes
// (SCHILY.xattr records), hard links, holes of files (GNU's sparse format 1.0, which GNU tar, bsdtar and Go read), FIFOs
// and devices. Sockets are left out, as every tar does. Entries come in the order of names; the folder itself is "./".
//
// Containers may change the folder meanwhile: every entry is opened by its parent's handle and no link is followed.
func Pack(w io.Writer, dir string) error {
	top, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer top.Close()
	p := &packer{raw: w, out: tar.NewWriter(w), seen: map[inode]string{}}
	var st unix.Stat_t
	if err := unix.Fstat(int(top.Fd()), &st); err != nil {
		return err
	}
	if err := p.folder(top, "", &st); err != nil {
		return err
	}
	return p.out.Close()
}

type inode struct{ dev, ino uint64 }

type packer struct {
	raw  io.Writer // below out, for what package tar does not write
	out  *tar.Writer
	seen map[inode]string // first name of a file with several
}

const xattrRecord = "SCHILY.xattr."

// header fills in what all kinds have.
func header(name string, st *unix.Stat_t) *tar.Header {
	return &tar.Header{Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), Format: tar.FormatPAX,
		ModTime: time.Unix(st.Mtim.Unix()), PAXRecords: map[string]string{}}
}

func (p *packer) folder(dir *os.File, name string, st *unix.Stat_t) error {
	h := header(name+"/", st)
	if name == "" {
		h.Name = "./"
	}
	h.Typeflag = tar.TypeDir
	if err := p.attributes(dir, h); err != nil {
		return err
	}
	if err := p.out.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, entry := range names {
		if err := p.entry(dir, entry, path.Join(name, entry)); err != nil && err != unix.ENOENT { // it went away meanwhile
			return fmt.Errorf("%s: %w", path.Join(name, entry), err)
		}
	}
	return nil
}

func (p *packer) entry(dir *os.File, entry, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), entry, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	h := header(name, &st)
	kind := st.Mode & unix.S_IFMT
	if id := (inode{uint64(st.Dev), st.Ino}); st.Nlink > 1 && kind != unix.S_IFDIR && kind != unix.S_IFSOCK {
		if first, ok := p.seen[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return p.out.WriteHeader(h)
		}
		p.seen[id] = name
	}
	switch kind {
	case unix.S_IFDIR, unix.S_IFREG:
		flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
		fd, err := unix.Openat(int(dir.Fd()), entry, flags, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), name)
		defer f.Close()
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		switch {
		case st.Mode&unix.S_IFMT != kind:
			return errors.New("it has changed meanwhile")
		case kind == unix.S_IFDIR:
			return p.folder(f, name, &st)
		}
		return p.file(f, header(name, &st), &st)
	case unix.S_IFLNK:
		text := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(dir.Fd()), entry, text)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(text[:n])
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if kind == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil
	}
	return p.out.WriteHeader(h)
}

// extent is a part of a file that is no hole.
type extent struct{ at, size int64 }

// extents finds a file's data. One that is all data is nil.
func extents(f *os.File, size int64) (out []extent, err error) {
	data := int64(0)
	for at := int64(0); at < size; {
		begin, end, err := mount.NextData(f, at)
		if err != nil {
			return nil, err
		}
		if begin < 0 || begin >= size {
			break
		}
		end = min(end, size)
		out = append(out, extent{begin, end - begin})
		data += end - begin
		at = end
	}
	if data == size {
		return nil, nil
	}
	return append(out, extent{size, 0}), nil // an end that says how long the file is
}

func (p *packer) file(f *os.File, h *tar.Header, st *unix.Stat_t) error {
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	if err := p.attributes(f, h); err != nil {
		return err
	}
	parts, err := extents(f, st.Size)
	if err != nil {
		return err
	}
	if parts != nil {
		return p.sparse(f, h, parts)
	}
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	return copyPart(p.out, f, extent{0, h.Size})
}

// copyPart copies bytes of a file. Those that it has lost meanwhile are zeros: their number is written already.
func copyPart(w io.Writer, f *os.File, part extent) error {
	n, err := io.Copy(w, io.NewSectionReader(f, part.at, part.size))
	if err == nil && n < part.size {
		_, err = io.CopyN(w, zeros{}, part.size-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// sparse writes a file with holes (GNU tar's manual, "PAX Format, Version 1.0"): records that say so, and before the data
// a text that says where they belong. Package tar reads this and does not write it.
func (p *packer) sparse(f *os.File, h *tar.Header, parts []extent) error {
	if err := p.out.Flush(); err != nil {
		return err
	}
	list := new(strings.Builder)
	fmt.Fprintf(list, "%d\n", len(parts))
	physical := int64(0)
	for _, part := range parts {
		fmt.Fprintf(list, "%d\n%d\n", part.at, part.size)
		physical += part.size
	}
	where := padded(list.String())
	physical += int64(len(where))
	r := h.PAXRecords
	r["GNU.sparse.major"], r["GNU.sparse.minor"] = "1", "0"
	r["GNU.sparse.name"], r["GNU.sparse.realsize"] = h.Name, strconv.FormatInt(h.Size, 10)
	r["path"] = path.Join(path.Dir(h.Name), "GNUSparseFile.0", path.Base(h.Name))
	r["size"], r["uid"], r["gid"] = strconv.FormatInt(physical, 10), strconv.Itoa(h.Uid), strconv.Itoa(h.Gid)
	r["mtime"] = fmt.Sprintf("%d.%09d", h.ModTime.Unix(), h.ModTime.Nanosecond())
	var records strings.Builder
	for _, k := range sortedKeys(r) {
		records.WriteString(paxRecord(k, r[k]))
	}
	head := ustar('x', 0o600, int64(records.Len())) + padded(records.String()) + ustar('0', h.Mode, physical) + where
	if _, err := io.WriteString(p.raw, head); err != nil {
		return err
	}
	n := int64(0)
	for _, part := range parts {
		if err := copyPart(p.raw, f, part); err != nil {
			return err
		}
		n += part.size
	}
	_, err := io.CopyN(p.raw, zeros{}, -n&511)
	return err
}

func sortedKeys(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// padded fills up to whole blocks of 512 bytes.
func padded(s string) string { return s + strings.Repeat("\x00", -len(s)&511) }

// paxRecord is "LENGTH KEY=VALUE\n", where LENGTH counts itself (pax(1), "pax Extended Header").
func paxRecord(k, v string) string {
	rest := " " + k + "=" + v + "\n"
	size := len(rest) + 1
	for size != len(rest)+len(strconv.Itoa(size)) {
		size = len(rest) + len(strconv.Itoa(size))
	}
	return strconv.Itoa(size) + rest
}

// ustar is the block before an entry's content; what does not fit into it stands in the records before.
func ustar(kind byte, mode, size int64) string {
	b := make([]byte, 512)
	copy(b, "sparse")
	octal := func(at, width int, n int64) { copy(b[at:], fmt.Sprintf("%0*o", width-1, n)) }
	octal(100, 8, mode)
	octal(108, 8, 0)
	octal(116, 8, 0)
	octal(124, 12, min(size, 0o77777777777))
	octal(136, 12, 0)
	copy(b[148:], "        ")
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := int64(0)
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return string(b)
}

// attributes reads extended attributes (xattr(7)) into the header.
func (p *packer) attributes(f *os.File, h *tar.Header) error {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(int(f.Fd()), list)
	if err == unix.EOPNOTSUPP {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("flistxattr", err)
	}
	value := make([]byte, 64<<10)
	for _, name := range strings.Split(strings.TrimRight(string(list[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		n, err := unix.Fgetxattr(int(f.Fd()), name, value)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
		h.PAXRecords[xattrRecord+escapeKey.Replace(name)] = string(value[:n])
	}
	return nil
}

// A key of a record ends at =, so it is written as GNU tar writes it.
var (
	escapeKey   = strings.NewReplacer("%", "%25", "=", "%3D")
	unescapeKey = strings.NewReplacer("%25", "%", "%3D", "=")
)

// Unpack fills an empty folder with an archive's content, as [Pack] or any tar has written it. The archive is not trusted:
// every name is looked up below the folder and nowhere else, links that lead out are made and never followed
// (CVE-2014-6407, CVE-2018-1002100), and attributes that would mean something to an overlay are left out.
func Unpack(r io.Reader, dir string) error {
	root, err := mount.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, in: tar.NewReader(r)}
	for {
		h, err := u.in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && h.Typeflag != tar.TypeXGlobalHeader {
			err = u.entry(h)
		}
		if err != nil {
			if h != nil {
				err = fmt.Errorf("%q: %w", h.Name, err)
			}
			return errs.New(kindOf(err), "read archive", err)
		}
	}
	for _, f := range slices.Backward(u.folders) { // what was made in a folder has changed its time
		if err := u.finish(f); err != nil {
			return err
		}
	}
	return nil
}

// kindOf tells archives that are none from a disk that is full.
func kindOf(err error) errs.Kind {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errName) {
		return errs.Invalid
	}
	return errs.KindOf(err)
}

type unpacker struct {
	root    *mount.Root
	in      *tar.Reader
	folders []*tar.Header
}

var errName = errors.New("the name leads out of the archive")

func (u *unpacker) entry(h *tar.Header) error {
	name := path.Clean("/" + h.Name)
	if slices.Contains(strings.Split(h.Name, "/"), "..") || strings.ContainsRune(h.Name+h.Linkname, 0) {
		return errName
	}
	if name == "/" {
		if h.Typeflag != tar.TypeDir {
			return errName
		}
		u.folders = append(u.folders, h)
		return nil
	}
	parent, err := u.root.MkdirAll(path.Dir(name), 0o755)
	if err != nil {
		return err
	}
	defer parent.Close()
	base := path.Base(name)
	if h.Typeflag == tar.TypeDir {
		u.folders = append(u.folders, h)
		err := unix.Mkdirat(int(parent.Fd()), base, 0o700)
		if err == unix.EEXIST {
			var st unix.Stat_t
			if err := unix.Fstatat(int(parent.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				return nil
			}
		}
		return err
	}
	if err := unix.Unlinkat(int(parent.Fd()), base, 0); err != nil && err != unix.ENOENT { // the later one of two counts
		return err
	}
	return u.make(parent, base, h)
}

func (u *unpacker) make(parent *os.File, base string, h *tar.Header) error {
	at := int(parent.Fd())
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return u.file(at, base, h)
	case tar.TypeLink:
		to, err := u.root.Open(h.Linkname, unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			return err
		}
		defer to.Close()
		return os.NewSyscallError("link", unix.Linkat(unix.AT_FDCWD, mount.HandlePath(to), at, base, unix.AT_SYMLINK_FOLLOW))
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, at, base); err != nil {
			return err
		}
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[h.Typeflag]
		if err := unix.Mknodat(at, base, kind|uint32(h.Mode&0o777), int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))); err != nil {
			return err
		}
	default:
		return fmt.Errorf("entries of type %q are unknown", h.Typeflag)
	}
	if err := unix.Fchownat(at, base, h.Uid, h.Gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeSymlink { // it was made just now, and the folder is ours
		if err := unix.Fchmodat(at, base, uint32(h.Mode&0o7777), 0); err != nil {
			return err
		}
	}
	return setTime(at, base, h)
}

func setTime(at int, base string, h *tar.Header) error {
	t := unix.NsecToTimespec(h.ModTime.UnixNano())
	return os.NewSyscallError("utimensat", unix.UtimesNanoAt(at, base, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW))
}

func (u *unpacker) file(at int, base string, h *tar.Header) error {
	fd, err := unix.Openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), h.Name)
	defer f.Close()
	if _, sparse := h.PAXRecords["GNU.sparse.major"]; sparse || h.Typeflag == tar.TypeGNUSparse {
		err = copyHoles(f, u.in, h.Size)
	} else {
		_, err = io.Copy(f, u.in)
	}
	if err == nil {
		err = setAttributes(f, h)
	}
	if err == nil {
		err = setTime(at, base, h)
	}
	return err
}

// copyHoles copies a content of a size and leaves blocks of zeros out.
func copyHoles(f *os.File, r io.Reader, whole int64) error {
	block, size := make([]byte, 4096), int64(0)
	for {
		n, err := io.ReadFull(r, block)
		if n > 0 && slices.ContainsFunc(block[:n], func(b byte) bool { return b != 0 }) {
			if _, err := f.WriteAt(block[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		switch {
		case err == nil:
		case size != whole:
			return io.ErrUnexpectedEOF
		default:
			return f.Truncate(size)
		}
	}
}

// setAttributes sets owner, mode and extended attributes; the owner first, whose change takes the others away.
func setAttributes(f *os.File, h *tar.Header) error {
	if err := unix.Fchown(int(f.Fd()), h.Uid, h.Gid); err != nil {
		return os.NewSyscallError("fchown", err)
	}
	if err := unix.Fchmod(int(f.Fd()), uint32(h.Mode&0o7777)); err != nil {
		return os.NewSyscallError("fchmod", err)
	}
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, xattrRecord)
		if name = unescapeKey.Replace(name); !ok || strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		if err := unix.Fsetxattr(int(f.Fd()), name, []byte(v), 0); err != nil && err != unix.EOPNOTSUPP {
			return os.NewSyscallError("fsetxattr "+name, err)
		}
	}
	return nil
}

func (u *unpacker) finish(h *tar.Header) error {
	f, err := u.root.Open(path.Clean("/"+h.Name), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := setAttributes(f, h); err != nil {
		return err
	}
	return setTime(int(f.Fd()), ".", h)
}
