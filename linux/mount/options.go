//go:build linux

package mount

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Options are the options of one mount, read from the words of mount(8) and the runtime specification
// (runtime-spec, config.md, "Linux mount options").
type Options struct {
	Set, Clear       uint64   // MOUNT_ATTR_* of the mount itself
	RecSet, RecClear uint64   // the same for the whole tree (rro, rnosuid, …)
	Propagation      uint64   // MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE; 0: as it is
	RecPropagation   bool     // for the whole tree (rshared, …)
	Bind, Recursive  bool     // bind, rbind
	Remount          bool     // change the mount that is there
	IDMap, RecIDMap  bool     // idmap, ridmap
	NoSymlinks       bool     // x-nosymlinks: the source of a bind mount has none, and must not have got one meanwhile
	CopyUp           bool     // tmpcopyup: a new tmpfs starts with what was there; see [CopyUp]
	Data             []string // for the file system, "key" or "key=value"; of no meaning for a bind mount
}

// attribute is a word and the attributes it sets or clears.
type attribute struct {
	word       string
	set, clear uint64
}

// attributes, of which each has a twin with an r in front for the whole tree. The kinds of atime are one number in a
// mask (MOUNT_ATTR__ATIME), in which relatime is 0.
var attributes = [...]attribute{
	{"ro", unix.MOUNT_ATTR_RDONLY, 0}, {"rw", 0, unix.MOUNT_ATTR_RDONLY},
	{"nosuid", unix.MOUNT_ATTR_NOSUID, 0}, {"suid", 0, unix.MOUNT_ATTR_NOSUID},
	{"nodev", unix.MOUNT_ATTR_NODEV, 0}, {"dev", 0, unix.MOUNT_ATTR_NODEV},
	{"noexec", unix.MOUNT_ATTR_NOEXEC, 0}, {"exec", 0, unix.MOUNT_ATTR_NOEXEC},
	{"nodiratime", unix.MOUNT_ATTR_NODIRATIME, 0}, {"diratime", 0, unix.MOUNT_ATTR_NODIRATIME},
	{"noatime", unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME}, {"atime", 0, unix.MOUNT_ATTR__ATIME},
	{"relatime", unix.MOUNT_ATTR_RELATIME, unix.MOUNT_ATTR__ATIME}, {"norelatime", unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME},
	{"strictatime", unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME}, {"nostrictatime", 0, unix.MOUNT_ATTR__ATIME},
	{"nosymfollow", unix.MOUNT_ATTR_NOSYMFOLLOW, 0}, {"symfollow", 0, unix.MOUNT_ATTR_NOSYMFOLLOW},
}

var propagations = [...]struct {
	word string
	flag uint64
}{{"shared", unix.MS_SHARED}, {"slave", unix.MS_SLAVE}, {"private", unix.MS_PRIVATE}, {"unbindable", unix.MS_UNBINDABLE}}

// superblock are words that every file system takes for the whole of it (fs/fs_context.c); they go with its data.
var superblock = [...]string{"sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"}

// idle are words that runtimes take and that change nothing: what "iversion" and "acl" ask for file systems decide on
// their own now, and the kernel's log is not for users.
var idle = [...]string{"defaults", "loud", "silent", "iversion", "noiversion", "acl", "noacl"}

// forFstab are words that mount(8) keeps for itself (fstab(5)).
var forFstab = [...]string{"", "auto", "noauto", "user", "nouser", "users", "nofail", "_netdev"}

// NoSymlinks is a word of ours among the options of a bind mount (mount(8), "X-* and x-*"): its source was found inside of
// a folder that a container may change, so a link on the way to it is an attempt to get out (CVE-2021-25741).
const NoSymlinks = "x-nosymlinks"

// ParseOptions reads the words in their order, the later one wins. What it does not know is for the file system, which
// will say whether it does. tmpcopyup of a bind mount is an error of kind Invalid.
func ParseOptions(words []string) (Options, error) {
	var o Options
	for _, w := range words {
		switch {
		case slices.Contains(idle[:], w), slices.Contains(forFstab[:], w):
		case w == "bind":
			o.Bind = true
		case w == "rbind":
			o.Bind, o.Recursive = true, true
		case w == "remount":
			o.Remount = true
		case w == "idmap":
			o.IDMap = true
		case w == "ridmap":
			o.IDMap, o.RecIDMap = true, true
		case w == "tmpcopyup":
			o.CopyUp = true
		case w == NoSymlinks:
			o.NoSymlinks = true
		case o.attribute(w), o.propagation(w):
		default:
			o.Data = append(o.Data, w)
		}
	}
	if o.CopyUp && o.Bind {
		return o, errs.New(errs.Invalid, "read mount options", fmt.Errorf("tmpcopyup is for a new tmpfs, not for a bind mount"))
	}
	return o, nil
}

func (o *Options) attribute(w string) bool {
	for _, a := range attributes {
		if w == a.word {
			o.Set, o.Clear = a.apply(o.Set, o.Clear)
			return true
		}
		if strings.HasPrefix(w, "r") && w[1:] == a.word {
			o.RecSet, o.RecClear = a.apply(o.RecSet, o.RecClear)
			return true
		}
	}
	return false
}

// apply puts an attribute on top of those that earlier words asked for.
func (a attribute) apply(set, clear uint64) (uint64, uint64) {
	return set&^(a.clear|a.set) | a.set, clear&^a.set | a.clear
}

func (o *Options) propagation(w string) bool {
	flag := Propagation(w)
	if flag == 0 {
		return false
	}
	o.Propagation, o.RecPropagation = flag&^unix.MS_REC, flag&unix.MS_REC != 0
	return true
}

// Propagation finds the flag of a word of propagation ("rslave": MS_SLAVE|MS_REC); 0 for none.
func Propagation(word string) uint64 {
	for _, p := range propagations {
		if word == p.word {
			return p.flag
		}
		if word == "r"+p.word {
			return p.flag | unix.MS_REC
		}
	}
	return 0
}

// LabelOption is the option that gives all files of a new file system a context of SELinux (mount(8), "context="). The
// context has commas.
func LabelOption(label string) string { return `context="` + label + `"` }

// Words lists what [ParseOptions] knows, sorted, for the features of a runtime (runtime-spec, features.md).
func Words() []string {
	out := []string{"bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup"}
	for _, a := range attributes {
		out = append(out, a.word, "r"+a.word)
	}
	for _, p := range propagations {
		out = append(out, p.word, "r"+p.word)
	}
	out = append(out, superblock[:]...)
	out = append(out, idle[:]...)
	slices.Sort(out)
	return out
}

// OpenSource opens the source of a bind mount (O_PATH).
func (o *Options) OpenSource(name string) (*os.File, error) {
	if !o.NoSymlinks {
		return os.OpenFile(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}
