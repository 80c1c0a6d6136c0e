//go:build linux

package mount

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Tree is a mount that is attached nowhere yet, an open descriptor. Close of one that was never attached unmounts it.
type Tree struct {
	f        *os.File
	what     string    // for messages
	options  []string  // for the trace
	branches bool      // other mounts may be below it
	late     attribute // what this kernel can set only when it is attached (before Linux 5.12)
}

// Close gives the descriptor back; an attached mount stays.
func (t *Tree) Close() error { return t.f.Close() }

// TreeAt takes over the open descriptor of a tree, which came from another process.
func TreeAt(f *os.File) *Tree { return &Tree{f: f, what: f.Name(), branches: true} }

// Detach takes an attached tree out of sight; what was taken of it by [Bind] stays (umount2(2), MNT_DETACH).
func (t *Tree) Detach(why string) error {
	return trace.Step("umount2", why, "what", t.what, "flags", "MNT_DETACH").
		Do(func() error { return unix.Unmount(HandlePath(t.f), unix.MNT_DETACH) })
}

// File is the open root of the tree.
func (t *Tree) File() *os.File { return t.f }

// Filesystem makes a new mount of a file system, "tmpfs" or "proc" for instance (fsopen(2), Linux 5.2). An option
// that the file system does not take is an error of kind Invalid with what it says of it, a file system that this
// kernel does not have one of kind Unsupported.
func Filesystem(fstype, source string, o Options) (*Tree, error) {
	attr := o.Set | o.RecSet // the attributes for the tree are those of the one mount that it is
	fd, err := newFilesystem(fstype, source, int(attr&^unix.MOUNT_ATTR_NOSYMFOLLOW), o.Data)
	if err != nil {
		return nil, errs.Wrap("mount "+fstype, err)
	}
	t := &Tree{f: os.NewFile(uintptr(fd), fstype), what: fstype, options: append(attributeWords(attr), o.Data...)}
	if attr&unix.MOUNT_ATTR_NOSYMFOLLOW != 0 { // not known to fsmount before Linux 5.14
		if err := t.setAttr(unix.MOUNT_ATTR_NOSYMFOLLOW, 0, false); err != nil {
			t.Close()
			return nil, err
		}
	}
	return t, nil
}

func newFilesystem(fstype, source string, attr int, data []string) (fd int, err error) {
	for _, d := range data {
		if _, v, _ := strings.Cut(d, "="); len(v) > maxString {
			return filesystemByText(fstype, source, attr, data)
		}
	}
	if len(source) > maxString {
		return filesystemByText(fstype, source, attr, data)
	}
	fs, err := fsopen(fstype)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if source != "" {
		if err := unix.FsconfigSetString(fs, "source", source); err != nil {
			return -1, explain(fs, err)
		}
	}
	// A device that is read-only can be mounted only if the whole file system is, not this one mount of it.
	if attr&unix.MOUNT_ATTR_RDONLY != 0 && strings.HasPrefix(source, "/") {
		data = append([]string{"ro"}, data...)
	}
	for _, d := range data {
		k, v, ok := strings.Cut(d, "=")
		if ok {
			err = unix.FsconfigSetString(fs, k, unquote(v))
		} else {
			err = unix.FsconfigSetFlag(fs, k)
		}
		if err != nil {
			return -1, errs.New(errs.Invalid, "option "+d, explain(fs, err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, explain(fs, err)
	}
	fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return -1, explain(fs, err)
	}
	return fd, nil
}

// unquote takes away the quotes that a value with commas has in the text of mount(2) ("context="a,b""), where nothing
// else could hold it together.
func unquote(v string) string {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

func fsopen(fstype string) (fd int, err error) {
	fd, err = unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err == unix.ENODEV {
		return -1, errs.New(errs.Unsupported, "", fmt.Errorf("this kernel does not have it: %w", err))
	}
	return fd, err
}

// explain adds what the file system itself says of a failure (fsopen(2), "message retrieval").
func explain(fs int, err error) error {
	var said []string
	buf := make([]byte, 1024)
	for {
		n, e := unix.Read(fs, buf)
		if e != nil || n < 3 { // a message is a letter for its level, a space, the text
			break
		}
		said = append(said, strings.TrimSpace(string(buf[2:n])))
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%s: %w", strings.Join(said, "; "), err)
}

// Bind makes a second mount of what a handle names, with all that is mounted below it or without (open_tree(2), Linux
// 5.2).
func Bind(source *os.File, recursive bool) (*Tree, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	options := []string{"bind"}
	if recursive {
		flags |= unix.AT_RECURSIVE
		options[0] = "rbind"
	}
	fd, err := unix.OpenTree(int(source.Fd()), "", flags)
	if err != nil {
		return nil, errs.Wrap("bind "+source.Name(), err)
	}
	return &Tree{f: os.NewFile(uintptr(fd), source.Name()), what: source.Name(), options: options, branches: recursive}, nil
}

// SetAttr gives the mount, and with its r-options the whole tree, its attributes (mount_setattr(2)). Before Linux 5.12
// those of one mount are set when it is attached, and those of a tree of several are an error of kind Unsupported.
func (t *Tree) SetAttr(o Options) error {
	if o.RecSet|o.RecClear != 0 {
		if err := t.setAttr(o.RecSet, o.RecClear, t.branches); err != nil {
			return err
		}
	}
	if o.Set|o.Clear != 0 {
		if err := t.setAttr(o.Set, o.Clear, false); err != nil {
			return err
		}
	}
	t.options = append(t.options, attributeWords(o.Set|o.RecSet)...)
	return nil
}

func (t *Tree) setAttr(set, clear uint64, recursive bool) error {
	// One kind of atime is chosen by clearing all of them (mount_setattr(2)).
	if set&unix.MOUNT_ATTR__ATIME != 0 {
		clear |= unix.MOUNT_ATTR__ATIME
	}
	err := unix.MountSetattr(int(t.f.Fd()), "", whole(recursive), &unix.MountAttr{Attr_set: set, Attr_clr: clear})
	switch {
	case err == unix.ENOSYS && recursive:
		return errs.New(errs.Unsupported, "set attributes of everything below "+t.what, fmt.Errorf("recursive attributes need Linux 5.12: %w", err))
	case err == unix.ENOSYS:
		t.late.set, t.late.clear = attribute{set: set, clear: clear}.apply(t.late.set, t.late.clear)
		return nil
	}
	return errs.Wrap("set attributes of "+t.what, err)
}

// whole are the flags for a mount by its handle, or for all that is below it too.
func whole(recursive bool) uint {
	if recursive {
		return unix.AT_EMPTY_PATH | unix.AT_RECURSIVE
	}
	return unix.AT_EMPTY_PATH
}

// IDMap translates owners of files through a user namespace's maps: who is root in it owns what root owns on disk. It
// needs Linux 5.12 and a file system that allows it; else the error is of kind Unsupported. It cannot be undone, and
// not be done to a mount that was attached.
func (t *Tree) IDMap(userns *os.File, recursive bool) error {
	err := unix.MountSetattr(int(t.f.Fd()), "", whole(recursive && t.branches),
		&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(userns.Fd())})
	switch err {
	case nil:
		t.options = append(t.options, "idmap")
		return nil
	case unix.EINVAL, unix.ENOSYS:
		return errs.New(errs.Unsupported, "map ids of "+t.what, fmt.Errorf("its file system, or this kernel, has no idmapped mounts: %w", err)).
			WithHint("ext4, xfs, btrfs have them since Linux 5.12 to 5.15, tmpfs since 6.3, overlayfs layers since 5.19")
	}
	return errs.Wrap("map ids of "+t.what, err)
}

// SetPropagation says how mounts made below spread (mount_namespaces(7)): MS_SHARED, MS_SLAVE, MS_PRIVATE or
// MS_UNBINDABLE. Before Linux 5.12 the tree must be attached already.
func (t *Tree) SetPropagation(flag uint64, recursive bool) error {
	return errs.Wrap("set propagation of "+t.what, setPropagation(t.f, flag, recursive))
}

func setPropagation(f *os.File, flag uint64, recursive bool) error {
	err := unix.MountSetattr(int(f.Fd()), "", whole(recursive), &unix.MountAttr{Propagation: flag})
	if err == unix.ENOSYS {
		if recursive {
			flag |= unix.MS_REC
		}
		err = unix.Mount("", HandlePath(f), "", uintptr(flag), "")
	}
	return err
}

// Attach moves the mount onto a handle: what is there now is covered (move_mount(2)). Nobody can put another target in
// its place meanwhile, because no name is looked up (CVE-2021-30465).
func (t *Tree) Attach(target *os.File, why string) error {
	err := trace.Step("mount", why, "what", t.what, "on", target.Name(), "options", t.options).Do(func() error {
		err := unix.MoveMount(int(t.f.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		if err != nil || t.late.set|t.late.clear == 0 {
			return err
		}
		return remountByPath(t.f, t.late.set, t.late.clear)
	})
	return errs.Wrap("mount "+t.what+" on "+target.Name(), err)
}

// Remount changes the attributes of the mount whose root a handle names. The trace's reason is why.
func Remount(target *os.File, o Options, why string) error {
	return trace.Step("mount_setattr", why, "on", target.Name(), "options", attributeWords(o.Set|o.RecSet)).Do(func() error {
		t := &Tree{f: target, what: target.Name(), branches: true}
		if err := t.SetAttr(o); err != nil || t.late.set|t.late.clear == 0 {
			return err
		}
		return errs.Wrap("set attributes of "+t.what, remountByPath(target, t.late.set, t.late.clear))
	})
}

// attributeWords are the words for attributes that are set.
func attributeWords(set uint64) (words []string) {
	for _, a := range attributes {
		if a.set != 0 && set&a.set == a.set && a.word != "norelatime" {
			words = append(words, a.word)
		}
	}
	return words
}
