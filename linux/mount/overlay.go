//go:build linux

package mount

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/osthread"
)

// OverlayOptions describe a union mount: the folders of an image's layers, and a folder that takes what is written.
type OverlayOptions struct {
	Lowers    []string // top first, at most 500
	Upper     string   // takes the changes; "" makes the mount read-only
	Work      string   // the kernel's own, empty, on the same file system as Upper
	Volatile  bool     // nothing is synced to disk: for what need not survive a power cut
	UserXattr bool     // for mounts inside of a user namespace
	Label     string   // SELinux's context of all files in it (mount(8), "context="); "": each file's own
	UserNS    *os.File // if not nil, all folders are seen through its id maps; Upper and Work are in one folder then
}

// maxLayers is how many lower folders the kernel takes (fs/overlayfs/params.h, OVL_MAX_STACK).
const maxLayers = 500

// settings keep the upper folder what a diff of layers needs: a renamed folder is not a mere reference to where it was,
// and attributes that an image brought cannot make the kernel look for files elsewhere. An index would tie the upper
// folder to the very lowers that it was used with first.
var settings = [...]string{"redirect_dir=nofollow", "metacopy=off", "index=off"}

// Overlay makes a union mount (Documentation/filesystems/overlayfs.rst). One folder alone needs no union and is bound.
//
// Layers are given to the kernel as handles (Linux 6.13), one by one by their names (6.7), or as one text in which
// open descriptors are their short names. With a user namespace each is seen through its id maps (5.19): files keep
// the owners on disk that the image says, root of the container is their root.
func Overlay(o OverlayOptions) (*Tree, error) {
	t, err := overlay(o, ways[:]...)
	return t, errs.Wrap("mount overlay", err)
}

// way is one way of telling the kernel what the layers are; errOldKernel when it does not know it.
type way func(o OverlayOptions, l *layers) (fd int, err error)

var ways = [...]way{byHandle, byName, byText}

var errOldKernel = errors.New("this kernel does not know this way of naming layers")

func overlay(o OverlayOptions, ways ...way) (*Tree, error) {
	switch {
	case len(o.Lowers) > maxLayers:
		return nil, errs.New(errs.Unsupported, "", fmt.Errorf("%d layers, the kernel takes %d", len(o.Lowers), maxLayers))
	case len(o.Lowers) == 0 && o.Upper == "":
		return nil, errs.New(errs.Invalid, "", fmt.Errorf("no layers"))
	case len(o.Lowers) == 0:
		return single(o.Upper, Options{}, o.UserNS)
	case len(o.Lowers) == 1 && o.Upper == "":
		return single(o.Lowers[0], Options{Set: unix.MOUNT_ATTR_RDONLY}, o.UserNS)
	}
	t, err := union(o, ways, false)
	if err == errOldKernel {
		err = inMountNamespace(func() (err error) {
			t, err = union(o, ways, true)
			return err
		})
	}
	return t, err
}

// union mounts by the first way that this kernel knows. private says that the thread has a mount namespace of its
// own: the layers' mounts must be of the namespace that they are used in, so they are opened here.
func union(o OverlayOptions, ways []way, private bool) (*Tree, error) {
	l, err := openLayers(o)
	if err != nil {
		return nil, err
	}
	defer l.close()
	if l.private = private; private {
		if err := l.attach(); err != nil {
			return nil, err
		}
	}
	fd := -1
	err = l.asOwner(func() error {
		err := errOldKernel
		for _, w := range ways {
			if fd, err = w(o, l); err != errOldKernel {
				break
			}
		}
		return err
	})
	if err == errOldKernel {
		return nil, err
	}
	if err != nil {
		return nil, l.hint(err)
	}
	return &Tree{f: os.NewFile(uintptr(fd), "overlay"), what: "overlay", options: o.words()}, nil
}

func single(folder string, attr Options, userns *os.File) (*Tree, error) {
	h, err := openFolder(folder)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	t, err := Bind(h, false)
	if err != nil {
		return nil, err
	}
	err = t.SetAttr(attr)
	if err == nil && userns != nil {
		err = t.IDMap(userns, false)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

func openFolder(name string) (*os.File, error) {
	return os.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// JoinLayers makes one text of layers' folders, as overlayfs reads it (overlayfs.rst, "Multiple lower layers").
func JoinLayers(folders []string) string {
	escaped := make([]string, len(folders))
	for i, f := range folders {
		escaped[i] = strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(f)
	}
	return strings.Join(escaped, ":")
}

// SplitLayers undoes [JoinLayers].
func SplitLayers(text string) (folders []string) {
	var folder strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			folder.WriteByte(text[i])
		case text[i] == ':':
			folders = append(folders, folder.String())
			folder.Reset()
		default:
			folder.WriteByte(text[i])
		}
	}
	return append(folders, folder.String())
}

// layers are the open folders of an overlay.
type layers struct {
	lowers      []*os.File
	upper, work *os.File
	mapped      []*Tree // the idmapped mounts that the folders are seen through
	private     bool    // the thread is in a mount namespace of its own
}

func openLayers(o OverlayOptions) (*layers, error) {
	l := &layers{lowers: make([]*os.File, len(o.Lowers))}
	for i, name := range o.Lowers {
		var err error
		if l.lowers[i], err = l.open(name, o.UserNS); err != nil {
			l.close()
			return nil, fmt.Errorf("layer %s: %w", name, err)
		}
	}
	if o.Upper == "" {
		return l, nil
	}
	if err := l.openWritable(o); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// open opens a folder, as a mount through the id maps of a user namespace if there is one.
func (l *layers) open(name string, userns *os.File) (*os.File, error) {
	h, err := openFolder(name)
	if err != nil || userns == nil {
		return h, err
	}
	defer h.Close()
	t, err := Bind(h, false)
	if err != nil {
		return nil, err
	}
	l.mapped = append(l.mapped, t)
	return t.f, t.IDMap(userns, false)
}

// openWritable opens the folders that are written to. With id maps they are parts of one idmapped mount, because the
// kernel wants both on the same.
func (l *layers) openWritable(o OverlayOptions) (err error) {
	if o.UserNS == nil {
		if l.upper, err = openFolder(o.Upper); err == nil {
			l.work, err = openFolder(o.Work)
		}
		return err
	}
	above := filepath.Dir(filepath.Clean(o.Upper))
	if above != filepath.Dir(filepath.Clean(o.Work)) {
		return errs.New(errs.Invalid, "", fmt.Errorf("%s and %s are not in one folder", o.Upper, o.Work))
	}
	dir, err := l.open(above, o.UserNS)
	if err != nil {
		return fmt.Errorf("folder %s: %w", above, err)
	}
	if l.upper, err = openAt(dir, filepath.Base(o.Upper), unix.O_PATH|unix.O_DIRECTORY); err == nil {
		l.work, err = openAt(dir, filepath.Base(o.Work), unix.O_PATH|unix.O_DIRECTORY)
	}
	return err
}

// attach gives idmapped mounts a place in the thread's own mount namespace: overlayfs takes none that are attached
// nowhere before Linux 6.15.
func (l *layers) attach() error {
	if len(l.mapped) == 0 {
		return nil
	}
	places, err := Filesystem("tmpfs", "layers", Options{})
	if err != nil {
		return err
	}
	defer places.Close()
	root, err := openFolder("/")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := places.Attach(root, "places for the layers as the container's users see them, in a mount namespace of a moment"); err != nil {
		return err
	}
	for i, t := range l.mapped {
		place := strconv.Itoa(i)
		if err := unix.Mkdirat(int(places.f.Fd()), place, 0o700); err != nil {
			return os.NewSyscallError("mkdir", err)
		}
		at, err := openAt(places.f, place, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		err = t.Attach(at, "root of the container owns what root owns in the layer")
		at.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// asOwner runs fn as a user who has an id on the upper folder's idmapped mount, which the host's root has not:
// overlayfs makes files in the work folder as whoever mounted it (else EOVERFLOW). That user is who owns the folder,
// and keeps root's capabilities. It is a matter of one thread (credentials(7)), and in a private mount namespace it
// is this one.
func (l *layers) asOwner(fn func() error) error {
	if l.upper == nil || len(l.mapped) == 0 {
		return fn()
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(l.upper.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	become := func() error {
		// Without this the kernel takes away the capabilities over files that a user who is not root has none of.
		if err := unix.Prctl(unix.PR_SET_SECUREBITS, secbitNoSetuidFixup, 0, 0, 0); err != nil {
			return os.NewSyscallError("keep capabilities", err)
		}
		// These two tell no error, only what was before.
		_, _ = unix.SetfsgidRetGid(int(st.Gid))
		_, _ = unix.SetfsuidRetUid(int(st.Uid))
		return fn()
	}
	if l.private {
		return become()
	}
	return osthread.Run(become)
}

// secbitNoSetuidFixup is SECBIT_NO_SETUID_FIXUP of include/uapi/linux/securebits.h.
const secbitNoSetuidFixup = 1 << 2

func (l *layers) close() {
	for _, t := range l.mapped {
		t.Close()
	}
	for _, h := range append(l.lowers, l.upper, l.work) {
		if h != nil {
			h.Close() // a second time for those of mapped, which does nothing
		}
	}
}

// hint tells of the one refusal whose cause is known: a write layer whose last mount did not sync it (overlayfs.rst,
// "Volatile mount").
func (l *layers) hint(err error) error {
	if l.work == nil {
		return err
	}
	if unix.Faccessat(int(l.work.Fd()), "work/incompat/volatile", unix.F_OK, 0) != nil {
		return err
	}
	return errs.New(errs.Conflict, "", err).WithHint("this write layer was last mounted as volatile: what it holds may be incomplete, make a new one")
}

// byHandle gives the layers as descriptors.
func byHandle(o OverlayOptions, l *layers) (int, error) {
	return configure(o, l, func(fs int, key string, h *os.File) error { return unix.FsconfigSetFd(fs, key, int(h.Fd())) })
}

// byName gives each layer as a name, which the kernel's list of mounts then shows.
func byName(o OverlayOptions, l *layers) (int, error) {
	return configure(o, l, func(fs int, key string, h *os.File) error {
		name := h.Name()
		// What lies behind an id map has no name of its own, and of a backslash the kernel would make something else.
		if len(l.mapped) > 0 || len(name) > maxString || !filepath.IsAbs(name) || strings.Contains(name, `\`) {
			name = HandlePath(h)
		}
		return unix.FsconfigSetString(fs, key, name)
	})
}

func configure(o OverlayOptions, l *layers, set func(fs int, key string, h *os.File) error) (fd int, err error) {
	fs, err := fsopen("overlay")
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if textOnly(fs) {
		return -1, errOldKernel
	}
	for i, h := range l.lowers {
		if err := set(fs, "lowerdir+", h); err != nil {
			if i == 0 && (err == unix.EINVAL || err == unix.EBADF) { // an unknown key, or no descriptors for it
				return -1, errOldKernel
			}
			return -1, fmt.Errorf("layer %s: %w", h.Name(), explain(fs, err))
		}
	}
	if l.upper != nil {
		if err := set(fs, "upperdir", l.upper); err != nil {
			return -1, fmt.Errorf("upper folder %s: %w", o.Upper, explain(fs, err))
		}
		if err := set(fs, "workdir", l.work); err != nil {
			return -1, fmt.Errorf("work folder %s: %w", o.Work, explain(fs, err))
		}
	}
	for _, s := range o.settings() {
		k, v, ok := strings.Cut(s, "=")
		if ok {
			err = unix.FsconfigSetString(fs, k, unquote(v))
		} else {
			err = unix.FsconfigSetFlag(fs, k)
		}
		if err != nil {
			return -1, fmt.Errorf("option %s: %w", s, explain(fs, err))
		}
	}
	if err := unix.FsconfigSetString(fs, "source", "overlay"); err != nil {
		return -1, explain(fs, err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		// Before Linux 6.15 mounts that are attached nowhere are refused.
		if err == unix.EINVAL && !l.private {
			return -1, errOldKernel
		}
		return -1, explain(fs, err)
	}
	fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, explain(fs, err)
	}
	return fd, nil
}

// textOnly reports whether the file system takes nothing but one text, as overlay does before Linux 6.5: it is the kernel
// that keeps the keys then, whatever they are, and only the whole is refused. A descriptor it refuses at once, before it
// looks whether there is one (fs/fsopen.c).
func textOnly(fs int) bool {
	return unix.FsconfigSetFd(fs, "lowerdir+", math.MaxInt32) == unix.EOPNOTSUPP
}

// byText gives all layers in one text of at most a page, for which their descriptors' numbers are names short enough:
// the thread's working directory is the folder of its descriptors.
func byText(o OverlayOptions, l *layers) (int, error) {
	if !l.private {
		return -1, errOldKernel
	}
	name := func(h *os.File) string { return strconv.Itoa(int(h.Fd())) }
	names := make([]string, len(l.lowers))
	for i, h := range l.lowers {
		names[i] = name(h)
	}
	data := []string{"lowerdir=" + strings.Join(names, ":")}
	if l.upper != nil {
		data = append(data, "upperdir="+name(l.upper), "workdir="+name(l.work))
	}
	data = append(data, o.settings()...)
	p, err := OpenProcfs()
	if err != nil {
		return -1, err
	}
	defer p.Close()
	fds, err := p.Open("self/fd", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, err
	}
	defer fds.Close()
	if err := unix.Fchdir(int(fds.Fd())); err != nil {
		return -1, os.NewSyscallError("fchdir", err)
	}
	return mountByText("overlay", "overlay", 0, data)
}

func (o OverlayOptions) settings() []string {
	out := settings[:]
	if o.Volatile && o.Upper != "" {
		out = append(out, "volatile")
	}
	if o.UserXattr {
		out = append(out, "userxattr")
	}
	if o.Label != "" {
		out = append(out, LabelOption(o.Label))
	}
	return out
}

// words are the options as the trace shows them.
func (o OverlayOptions) words() []string {
	shown := o.Lowers
	if len(shown) > 4 {
		shown = append(shown[:3:3], fmt.Sprintf("and %d more", len(o.Lowers)-3))
	}
	out := []string{"lowerdir=" + strings.Join(shown, ":")}
	if o.Upper != "" {
		out = append(out, "upperdir="+o.Upper, "workdir="+o.Work)
	}
	if o.UserNS != nil {
		out = append(out, "idmap")
	}
	return append(out, o.settings()...)
}
