//go:build linux

package mount

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/testutil"
	"github.com/berth-containers/berth/linux/namespace"
)

func root(t *testing.T) (string, *Root) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return dir, r
}

func TestLookUpsStayInside(t *testing.T) {
	dir, r := root(t)
	secret := filepath.Join(dir, "..", "secret")
	if err := os.WriteFile(secret, []byte("outside"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"up": "../secret", "abs": secret, "far": "../../../../../../../../../../" + secret, "dir": ".."} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"up", "abs", "far", "dir/secret", "../secret", "/../secret"} {
		if b, err := r.ReadFile(name, 100); err == nil && len(b) > 0 {
			t.Errorf("%s leads outside", name)
		}
		f, err := r.Create(name, 0o600)
		if err != nil {
			t.Errorf("create %s: %v", name, err)
			continue
		}
		at, err := os.Readlink(HandlePath(f))
		f.Close()
		if err != nil || !strings.HasPrefix(at, dir+"/") {
			t.Errorf("create %s made %s, %v", name, at, err)
		}
	}
	if b, _ := os.ReadFile(secret); string(b) != "outside" {
		t.Error("the file outside was written")
	}
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	if f, err := r.MkdirAll("loop/x", 0o755); err == nil {
		f.Close()
		t.Error("a link to itself has an inside")
	}
}

func TestNodesAreMadeWithTheirModes(t *testing.T) {
	dir, r := root(t)
	if err := os.Symlink("/run", filepath.Join(dir, "varrun")); err != nil {
		t.Fatal(err)
	}
	d, err := r.MkdirAll("varrun/a/b", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	if fi, err := os.Stat(filepath.Join(dir, "run/a/b")); err != nil || !fi.IsDir() {
		t.Errorf("a dangling link's target was not made inside: %v", err)
	}
	old := unix.Umask(0o077)
	err = r.Mknod("dev/null", unix.S_IFCHR|0o666, unix.Mkdev(1, 3))
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	st, err := r.Stat("dev/null")
	if err != nil || st.Mode != unix.S_IFCHR|0o666 || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("%o %x, %v", st.Mode, st.Rdev, err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadFile("fifo", 100); !errs.Is(err, errs.Invalid) {
		t.Errorf("a FIFO was read: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 101), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadFile("big", 100); !errs.Is(err, errs.Invalid) {
		t.Errorf("a file beyond the bound was read: %v", err)
	}
}

// Somebody swaps a folder for a link to the outside all the time: nothing may ever appear outside.
func TestSwappedFolderNeverLeadsOutside(t *testing.T) {
	dir, r := root(t)
	outside := filepath.Join(dir, "..", "outside")
	for _, d := range []string{outside, filepath.Join(dir, "real"), filepath.Join(dir, "real/sub")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "real"), unix.AT_FDCWD, filepath.Join(dir, "link"), unix.RENAME_EXCHANGE)
		}
	}()
	for i := range 2000 {
		if f, err := r.MkdirAll(fmt.Sprintf("real/sub%d/x", i), 0o755); err == nil {
			f.Close()
		}
		if f, err := r.Create(fmt.Sprintf("link/f%d", i), 0o644); err == nil {
			f.Close()
		}
	}
	stop.Store(true)
	<-done
	if es, err := os.ReadDir(outside); err != nil || len(es) != 0 {
		t.Errorf("outside has %v, %v", es, err)
	}
}

func attach(t *testing.T, tree *Tree, err error, target string) bool {
	t.Helper()
	if err != nil {
		t.Error(err)
		return false
	}
	defer tree.Close()
	h, err := os.OpenFile(target, unix.O_PATH, 0)
	if err != nil {
		t.Error(err)
		return false
	}
	defer h.Close()
	if err := tree.Attach(h, "test"); err != nil {
		t.Error(err)
		return false
	}
	return true
}

func layers(t *testing.T, n int) []string {
	t.Helper()
	dir := t.TempDir()
	out := make([]string, n)
	for i := range out {
		out[i] = filepath.Join(dir, fmt.Sprintf("layer%d", i))
		if err := os.Mkdir(out[i], 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"common", fmt.Sprintf("only%d", i)} {
			if err := os.WriteFile(filepath.Join(out[i], f), fmt.Appendf(nil, "%d", i), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func TestOverlay(t *testing.T) {
	for _, n := range []int{1, 3, 130, 300} {
		for _, how := range []string{"one by one", "by text"} {
			t.Run(fmt.Sprintf("%d layers %s", n, how), func(t *testing.T) {
				if n > 200 && how == "by text" {
					t.Skip("a page of text has no room for them")
				}
				ls, dir := layers(t, n), t.TempDir()
				for _, d := range []string{"up", "work", "merged"} {
					if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				testutil.InMountNamespace(t, func() {
					o := OverlayOptions{Lowers: ls, Upper: filepath.Join(dir, "up"), Work: filepath.Join(dir, "work"), Volatile: true}
					var tree *Tree
					var err error
					if how == "by text" {
						err = inMountNamespace(func() (e error) { tree, e = overlayByText(o); return e })
					} else if tree, err = Overlay(o); err == errOldKernel {
						t.Skip("before Linux 6.7")
					}
					merged := filepath.Join(dir, "merged")
					if !attach(t, tree, err, merged) {
						return
					}
					if b, err := os.ReadFile(filepath.Join(merged, "common")); err != nil || string(b) != "0" {
						t.Errorf("the top layer does not win: %s, %v", b, err)
					}
					if _, err := os.Stat(filepath.Join(merged, fmt.Sprintf("only%d", n-1))); err != nil {
						t.Error(err)
					}
					if err := os.WriteFile(filepath.Join(merged, "new"), nil, 0o644); err != nil {
						t.Error(err)
					}
					if _, err := os.Stat(filepath.Join(dir, "up", "new")); err != nil {
						t.Error("what was written is not in the upper folder")
					}
				})
			})
		}
	}
}

func TestOverlayThroughIDMaps(t *testing.T) {
	ls, dir := layers(t, 2), t.TempDir()
	for _, d := range []string{"up", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	maps := []namespace.IDMap{{Container: 0, Host: 100000, Size: 65536}}
	ns, err := namespace.UserNamespace(maps, maps)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	testutil.InMountNamespace(t, func() {
		tree, err := Overlay(OverlayOptions{Lowers: ls, Upper: filepath.Join(dir, "up"), Work: filepath.Join(dir, "work"), UserNS: ns})
		if errs.Is(err, errs.Unsupported) {
			t.Skip(err)
		}
		merged := filepath.Join(dir, "merged")
		if !attach(t, tree, err, merged) {
			return
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(merged, "common"), &st); err != nil || st.Uid != 100000 {
			t.Errorf("owner %d, %v; want 100000", st.Uid, err)
		}
	})
}

func TestRecursiveReadOnlyCoversSubmounts(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(src, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	testutil.InMountNamespace(t, func() {
		tree, err := Filesystem("tmpfs", "sub", Options{Data: []string{"size=1m", "mode=0700"}, Set: unix.MOUNT_ATTR_NOSUID})
		if !attach(t, tree, err, filepath.Join(src, "sub")) {
			return
		}
		h, err := os.OpenFile(src, unix.O_PATH, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer h.Close()
		bind, err := Bind(h, true)
		if err == nil {
			o, _ := ParseOptions([]string{"rbind", "rro"})
			err = bind.SetAttr(o)
		}
		if !attach(t, bind, err, dst) {
			return
		}
		for _, f := range []string{"x", "sub/x"} {
			if err := os.WriteFile(filepath.Join(dst, f), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("%s: %v, want a read-only file system", f, err)
			}
		}
		if err := os.WriteFile(filepath.Join(src, "sub/x"), nil, 0o600); err != nil {
			t.Errorf("the source became read-only too: %v", err)
		}
	})
}

func TestPivotRootLeavesNothingOfTheHost(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "here"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	testutil.InMountNamespace(t, func() {
		h, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		bind, err := Bind(h, false)
		if !attach(t, bind, err, dir) {
			return
		}
		r, err := OpenRoot(dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer r.Close()
		if err := PivotRoot(r); err != nil {
			t.Error(err)
			return
		}
		if es, err := os.ReadDir("/"); err != nil || len(es) != 1 || es[0].Name() != "here" {
			t.Errorf("/ has %v, %v", es, err)
		}
		if wd, err := unix.Getcwd(make([]byte, 100)); err != nil || wd != 2 {
			t.Errorf("working directory: %d, %v", wd, err)
		}
	})
	if after, _ := os.ReadFile("/proc/self/mountinfo"); string(after) != string(before) {
		t.Error("the host's mounts changed")
	}
}

// A tmpfs with a file of the right name is no procfs, and a mount over one of its files is not crossed.
func TestProcfsIsChecked(t *testing.T) {
	p, err := OpenProcfs()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Open("self/exe", unix.O_RDONLY); err == nil {
		t.Error("a magic link was followed")
	}
	if f, err := p.Open("thread-self/attr/current", unix.O_RDONLY); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	fake := filepath.Join(t.TempDir(), "fake")
	if err := os.WriteFile(fake, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	testutil.InMountNamespace(t, func() {
		if err := unix.Mount(fake, "/proc/sys/kernel/domainname", "", unix.MS_BIND, ""); err != nil {
			t.Error(err)
			return
		}
		p, err := OpenProcfs()
		if err != nil {
			t.Error(err)
			return
		}
		if err := p.Write("sys/kernel/domainname", "x"); !errors.Is(err, unix.EXDEV) {
			t.Errorf("a mount over a file was crossed: %v", err)
		}
		p.Close()
		if err := unix.Mount("tmpfs", "/proc", "tmpfs", 0, ""); err != nil {
			t.Error(err)
			return
		}
		if _, err := OpenProcfs(); !errs.Is(err, errs.Invalid) {
			t.Errorf("a tmpfs passed for /proc: %v", err)
		}
	})
	if b, _ := os.ReadFile(fake); len(b) != 0 {
		t.Error("the fake was written")
	}
}

func TestOptions(t *testing.T) {
	o, err := ParseOptions([]string{"rbind", "ro", "nosuid", "suid", "rnoexec", "noatime", "rslave", "size=1m", "idmap"})
	if err != nil {
		t.Fatal(err)
	}
	if !o.Bind || !o.Recursive || !o.IDMap || o.RecIDMap || o.Set != unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOATIME ||
		o.Clear&unix.MOUNT_ATTR_NOSUID == 0 || o.RecSet != unix.MOUNT_ATTR_NOEXEC || o.Propagation != unix.MS_SLAVE || !o.RecPropagation ||
		len(o.Data) != 1 || o.Data[0] != "size=1m" {
		t.Errorf("%+v", o)
	}
	if _, err := ParseOptions([]string{"bind", "tmpcopyup"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("tmpcopyup of a bind: %v", err)
	}
	testutil.InMountNamespace(t, func() {
		if _, err := Filesystem("tmpfs", "x", Options{Data: []string{"bogus=1"}}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "bogus") {
			t.Errorf("an unknown option: %v", err)
		}
		if _, err := Filesystem("nofs", "x", Options{}); !errs.Is(err, errs.Unsupported) {
			t.Errorf("an unknown file system: %v", err)
		}
	})
}
