//go:build linux

package mount

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/testutil"
	"github.com/berth-containers/berth/linux/namespace"
)

func TestOptions(t *testing.T) {
	o, err := ParseOptions([]string{"rbind", "defaults", "ro", "nosuid", "suid", "rnoexec", "noatime", "rslave", "size=1m", "sync", "idmap", "noauto"})
	if err != nil {
		t.Fatal(err)
	}
	if !o.Bind || !o.Recursive || !o.IDMap || o.RecIDMap || o.Set != unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOATIME ||
		o.Clear&unix.MOUNT_ATTR_NOSUID == 0 || o.RecSet != unix.MOUNT_ATTR_NOEXEC || o.Propagation != unix.MS_SLAVE || !o.RecPropagation ||
		!slices.Equal(o.Data, []string{"size=1m", "sync"}) {
		t.Errorf("%+v", o)
	}
	if o, _ := ParseOptions([]string{"noatime", "strictatime", "ridmap", "private"}); o.Set != unix.MOUNT_ATTR_STRICTATIME || !o.RecIDMap || o.RecPropagation {
		t.Errorf("%+v", o)
	}
	if _, err := ParseOptions([]string{"bind", "tmpcopyup"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("tmpcopyup of a bind: %v", err)
	}
	words := Words()
	if slices.Contains(words, "") || !slices.IsSorted(words) || len(slices.Compact(slices.Clone(words))) != len(words) {
		t.Errorf("%q", words)
	}
	for _, w := range words {
		if o, err := ParseOptions([]string{w}); err != nil || len(o.Data) > 0 && !slices.Contains(superblock[:], w) {
			t.Errorf("%s is not known: %+v, %v", w, o, err)
		}
	}
}

// flagsAt are the attributes of a mount as statfs(2) tells them.
func flagsAt(t *testing.T, path string) uint64 {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		t.Fatal(err)
	}
	return attributesOf(fs.Flags)
}

// Every attribute arrives, on a new mount, on a bound one and on one that is there, and its opposite takes it away.
func TestAttributesArrive(t *testing.T) {
	dir := t.TempDir()
	testutil.InMountNamespace(t, func() {
		for _, a := range attributes {
			if a.set == 0 {
				continue
			}
			o, err := ParseOptions([]string{a.word})
			if err != nil {
				t.Fatal(err)
			}
			tree, err := Filesystem("tmpfs", "test", o)
			attach(t, dir, tree, err)
			if got := flagsAt(t, dir); got != a.set {
				t.Errorf("a new mount with %s has %#x, want %#x", a.word, got, a.set)
			}
			off, err := ParseOptions([]string{"r" + opposite(a.word)})
			if err != nil {
				t.Fatal(err)
			}
			bind, err := Bind(handle(t, dir), false)
			if err == nil {
				err = bind.SetAttr(off)
			}
			attach(t, dir, bind, err)
			if got := flagsAt(t, dir); got&a.set != 0 {
				t.Errorf("a bound mount with %s has %#x", opposite(a.word), got)
			}
			if err := Remount(handle(t, dir), o, "test"); err != nil {
				t.Fatal(err)
			}
			if got := flagsAt(t, dir); got != a.set {
				t.Errorf("a mount that was given %s has %#x, want %#x", a.word, got, a.set)
			}
			for range 2 {
				if err := Unmount(dir, unix.MNT_DETACH, "test"); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func opposite(word string) string {
	switch word {
	case "ro":
		return "rw"
	case "norelatime":
		return "relatime"
	}
	if w, ok := strings.CutPrefix(word, "no"); ok {
		return w
	}
	return "no" + word
}

// What is changed keeps what it has: a remount must not make a nosuid mount suid again.
func TestRemountKeepsTheOtherAttributes(t *testing.T) {
	dir := t.TempDir()
	testutil.InMountNamespace(t, func() {
		tree, err := Filesystem("tmpfs", "test", Options{Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOATIME})
		attach(t, dir, tree, err)
		if err := Remount(handle(t, dir), Options{Set: unix.MOUNT_ATTR_RDONLY, Clear: unix.MOUNT_ATTR_NODEV}, "test"); err != nil {
			t.Fatal(err)
		}
		if got, want := flagsAt(t, dir), uint64(unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOATIME|unix.MOUNT_ATTR_RDONLY); got != want {
			t.Errorf("%#x, want %#x", got, want)
		}
	})
}

func TestFilesystemSaysWhatItRefuses(t *testing.T) {
	_, err := Filesystem("tmpfs", "x", Options{Data: []string{"bogus=1"}})
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "bogus") {
		t.Errorf("an unknown option: %v", err)
	}
	if _, err := Filesystem("tmpfs", "x", Options{Data: []string{"size=lots"}}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "size") {
		t.Errorf("an option's bad value: %v", err)
	}
	if _, err := Filesystem("nofs", "x", Options{}); !errs.Is(err, errs.Unsupported) {
		t.Errorf("an unknown file system: %v", err)
	}
	if _, err := Filesystem("nofs", strings.Repeat("x", 300), Options{}); !errs.Is(err, errs.Unsupported) {
		t.Errorf("an unknown file system, by text: %v", err)
	}
}

func TestFilesystemTakesItsOptions(t *testing.T) {
	dir := t.TempDir()
	testutil.InMountNamespace(t, func() {
		o, err := ParseOptions([]string{"size=64k", "mode=1750", "uid=5", "gid=6", "nosuid", "noexec", "sync"})
		if err != nil {
			t.Fatal(err)
		}
		tree, err := Filesystem("tmpfs", "shm", o)
		attach(t, dir, tree, err)
		var st unix.Stat_t
		var fs unix.Statfs_t
		if err := errors.Join(unix.Stat(dir, &st), unix.Statfs(dir, &fs)); err != nil {
			t.Fatal(err)
		}
		if st.Mode&0o7777 != 0o1750 || st.Uid != 5 || st.Gid != 6 || uint64(fs.Blocks)*uint64(fs.Bsize) != 64<<10 || fs.Flags&unix.ST_SYNCHRONOUS == 0 {
			t.Errorf("mode %o of %d:%d, %d bytes, flags %#x", st.Mode, st.Uid, st.Gid, uint64(fs.Blocks)*uint64(fs.Bsize), fs.Flags)
		}
	})
}

// An option longer than what fsconfig takes.
func TestFilesystemWithALongOption(t *testing.T) {
	dir := t.TempDir()
	o := unionFolders(t, dir, 30)
	merged := filepath.Join(dir, "merged")
	testutil.InMountNamespace(t, func() {
		lowers := "lowerdir=" + strings.Join(o.Lowers, ":")
		tree, err := Filesystem("overlay", "long", Options{Set: unix.MOUNT_ATTR_NODEV, Data: []string{lowers, "upperdir=" + o.Upper, "workdir=" + o.Work}})
		attach(t, merged, tree, err)
		if got := read(t, filepath.Join(merged, "common")); got != "0" {
			t.Errorf("layer %s is on top", got)
		}
		if flagsAt(t, merged)&unix.MOUNT_ATTR_NODEV == 0 {
			t.Error("it is not nodev")
		}
		if _, err := Filesystem("overlay", "longer", Options{Data: []string{"lowerdir=" + strings.Repeat("/x:", 2000)}}); !errs.Is(err, errs.Unsupported) {
			t.Errorf("more than a page: %v", err)
		}
	})
}

func TestRecursiveReadOnlyCoversSubmounts(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	sub := filepath.Join(src, "sub")
	mkdirs(t, sub)
	testutil.InMountNamespace(t, func() {
		tree, err := Filesystem("tmpfs", "sub", Options{Data: []string{"size=1m"}})
		attach(t, sub, tree, err)
		bind, err := Bind(handle(t, src), true)
		if err == nil {
			o, _ := ParseOptions([]string{"rbind", "rro"})
			err = bind.SetAttr(o)
		}
		if lacks(unix.SYS_MOUNT_SETATTR) {
			if !errs.Is(err, errs.Unsupported) {
				t.Errorf("a tree of mounts was made read-only without mount_setattr: %v", err)
			}
			return
		}
		attach(t, dst, bind, err)
		for _, f := range []string{"x", "sub/x"} {
			if err := os.WriteFile(filepath.Join(dst, f), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("%s: %v, want a read-only file system", f, err)
			}
		}
		if err := os.WriteFile(filepath.Join(sub, "x"), nil, 0o600); err != nil {
			t.Errorf("the source became read-only too: %v", err)
		}
	})
}

// The mount goes where the handle is, whatever its name has become meanwhile.
func TestAttachFollowsTheHandleAndNotTheName(t *testing.T) {
	dir := t.TempDir()
	target, outside := filepath.Join(dir, "target"), filepath.Join(dir, "outside")
	mkdirs(t, target, outside)
	testutil.InMountNamespace(t, func() {
		h := handle(t, target)
		if err := errors.Join(os.Rename(target, target+"-moved"), os.Symlink(outside, target)); err != nil {
			t.Fatal(err)
		}
		tree, err := Filesystem("tmpfs", "test", Options{Data: []string{"mode=0711"}})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		if err := tree.Attach(h, "test"); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(mounts(t), outside) {
			t.Error("something is mounted outside")
		}
		if fi, err := os.Stat(target + "-moved"); err != nil || fi.Mode().Perm() != 0o711 {
			t.Errorf("nothing is mounted where the handle is: %v, %v", fi.Mode(), err)
		}
		if err := tree.Attach(handle(t, "/dev/null"), "test"); err == nil {
			t.Error("a folder was mounted on a device")
		}
	})
}

// A file can be mounted on a file, by handles: /etc/hosts of a container.
func TestBindOfAFile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ours"), "ours")
	write(t, filepath.Join(dir, "theirs"), "theirs")
	testutil.InMountNamespace(t, func() {
		tree, err := Bind(handle(t, filepath.Join(dir, "ours")), false)
		if err == nil {
			err = tree.SetAttr(Options{Set: unix.MOUNT_ATTR_RDONLY})
		}
		attach(t, filepath.Join(dir, "theirs"), tree, err)
		if got := read(t, filepath.Join(dir, "theirs")); got != "ours" {
			t.Errorf("it holds %q", got)
		}
		if err := os.WriteFile(filepath.Join(dir, "theirs"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("a write: %v", err)
		}
	})
	if got := read(t, filepath.Join(dir, "theirs")); got != "theirs" {
		t.Errorf("the file below holds %q", got)
	}
}

func TestIDMap(t *testing.T) {
	maps := []namespace.IDMap{{Container: 0, Host: 100000, Size: 65536}}
	ns, err := namespace.UserNamespace(maps, maps)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	src, dst := t.TempDir(), t.TempDir()
	write(t, filepath.Join(src, "file"), "x")
	if err := os.Chown(filepath.Join(src, "file"), 3, 4); err != nil {
		t.Fatal(err)
	}
	testutil.InMountNamespace(t, func() {
		proc, err := Filesystem("proc", "proc", Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer proc.Close()
		if err := proc.IDMap(ns, false); !errs.Is(err, errs.Unsupported) {
			t.Errorf("procfs has id maps: %v", err)
		}
		tree, err := Bind(handle(t, src), false)
		if err == nil {
			err = tree.IDMap(ns, false)
		}
		if errs.Is(err, errs.Unsupported) {
			t.Skip(err)
		}
		attach(t, dst, tree, err)
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(dst, "file"), &st); err != nil || st.Uid != 100003 || st.Gid != 100004 {
			t.Errorf("owner %d:%d, %v", st.Uid, st.Gid, err)
		}
	})
}

func TestPropagation(t *testing.T) {
	for word, want := range map[string]uint64{"shared": unix.MS_SHARED, "rslave": unix.MS_SLAVE | unix.MS_REC, "rprivate": unix.MS_PRIVATE | unix.MS_REC, "ro": 0, "": 0} {
		if got := Propagation(word); got != want {
			t.Errorf("%q is %#x, want %#x", word, got, want)
		}
	}
	dir := t.TempDir()
	testutil.InMountNamespace(t, func() {
		tree, err := Filesystem("tmpfs", "test", Options{})
		attach(t, dir, tree, err)
		mkdirs(t, filepath.Join(dir, "a/b"))
		shared := func() bool {
			for line := range strings.Lines(mounts(t)) {
				if f := strings.Fields(line); f[4] == dir {
					return strings.HasPrefix(f[6], "shared:")
				}
			}
			return false
		}
		if err := SetPropagation(dir, unix.MS_SHARED, "test"); err != nil || !shared() {
			t.Fatalf("not shared: %v", err)
		}
		if err := PrivateParent(handle(t, filepath.Join(dir, "a/b")), "test"); err != nil || shared() {
			t.Errorf("the mount of a folder is still shared: %v", err)
		}
	})
}
