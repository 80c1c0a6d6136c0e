//go:build linux

package mount

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Options are the options of one mount, read from the words of mount(8) and the runtime specification.
type Options struct {
	Set, Clear       uint64   // MOUNT_ATTR_* of the mount itself
	RecSet, RecClear uint64   // the same for the whole tree (rro, rnosuid, …)
	Propagation      uint64   // MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE; 0: as it is
	RecPropagation   bool     // for the whole tree (rshared, …)
	Bind, Recursive  bool     // bind, rbind
	Remount          bool     //
	IDMap, RecIDMap  bool     // idmap, ridmap
	CopyUp           bool     // tmpcopyup: a new tmpfs starts with what was there
	Data             []string // everything else: the file system's own, "key" or "key=value"
}

// attribute is a word and the attributes it sets or clears.
type attribute struct {
	word       string
	set, clear uint64
}

// attributes, of which each has a twin with an r in front for the whole tree (runtime-spec, "Linux mount options").
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

// ignored words say what is so anyway, or are mount(8)'s own.
func ignored(w string) bool {
	switch w {
	case "", "defaults", "async", "loud", "nolazytime", "nomand", "mand", "iversion", "noiversion", "silent", "acl", "auto", "noauto", "nouser", "_netdev":
		return true
	}
	return false
}

// ParseOptions reads the words; it refuses those that contradict each other.
func ParseOptions(words []string) (Options, error) {
	var o Options
	for _, w := range words {
		switch {
		case ignored(w):
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
			o.Set, o.Clear = o.Set&^(a.clear|a.set)|a.set, o.Clear&^a.set|a.clear
			return true
		}
		if strings.HasPrefix(w, "r") && w[1:] == a.word {
			o.RecSet, o.RecClear = o.RecSet&^(a.clear|a.set)|a.set, o.RecClear&^a.set|a.clear
			return true
		}
	}
	return false
}

func (o *Options) propagation(w string) bool {
	for _, p := range propagations {
		if w == p.word || w == "r"+p.word {
			o.Propagation, o.RecPropagation = p.flag, w != p.word
			return true
		}
	}
	return false
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

// Words lists what ParseOptions knows, for the features of a runtime.
func Words() []string {
	out := []string{"bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup", "defaults"}
	for _, a := range attributes {
		out = append(out, a.word, "r"+a.word)
	}
	for _, p := range propagations {
		out = append(out, p.word, "r"+p.word)
	}
	return out
}
