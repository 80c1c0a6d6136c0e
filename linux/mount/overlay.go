//go:build linux

package mount

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// OverlayOptions describe a union mount: the folders of an image's layers, and a folder that takes what is written.
type OverlayOptions struct {
	Lowers    []string // top first
	Upper     string   // takes the changes; "" makes the mount read-only
	Work      string   // the kernel's own, beside Upper on the same file system
	Volatile  bool     // nothing is synced to disk: for what need not survive a power cut
	UserXattr bool     // for mounts inside of a user namespace
	UserNS    *os.File // lowers and upper are seen through its id maps (Linux 5.19)
}

// maxString is what fsconfig(2) takes for one value.
const maxString = 255

// Overlay makes a union mount (Documentation/filesystems/overlayfs.rst). The number of layers is bounded by the kernel
// alone (500) where it takes them one by one (Linux 6.7), and by a page of text before.
func Overlay(o OverlayOptions) (*Tree, error) {
	var t *Tree
	var err error
	if o.UserNS != nil {
		err = inMountNamespace(func() error {
			o := o
			// The folders may lie below the one that is about to be covered: hold on to them.
			for _, name := range []*string{&o.Upper, &o.Work} {
				if *name == "" {
					continue
				}
				h, e := os.OpenFile(*name, unix.O_PATH|unix.O_CLOEXEC, 0)
				if e != nil {
					return e
				}
				defer h.Close()
				*name = HandlePath(h)
			}
			lowers, e := idmapped(o)
			if e != nil {
				return e
			}
			o.Lowers = lowers
			t, e = overlay(o)
			return e
		})
	} else {
		t, err = overlay(o)
	}
	return t, errs.Wrap("mount overlay", err)
}

func overlay(o OverlayOptions) (*Tree, error) {
	t, err := overlayOneByOne(o)
	if err == errOldKernel {
		err = inMountNamespace(func() error {
			t, err = overlayByText(o)
			return err
		})
	}
	return t, err
}

var errOldKernel = fmt.Errorf("the kernel takes no layers one by one")

// overlayOneByOne uses fsconfig's lowerdir+ (Linux 6.7).
func overlayOneByOne(o OverlayOptions) (*Tree, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, known(err)
	}
	defer unix.Close(fs)
	var handles []*os.File
	defer func() {
		for _, h := range handles {
			h.Close()
		}
	}()
	set := func(key, path string) error {
		if len(path) > maxString {
			h, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			handles = append(handles, h)
			path = HandlePath(h)
		}
		return unix.FsconfigSetString(fs, key, path)
	}
	for i, l := range o.Lowers {
		if err := set("lowerdir+", l); err != nil {
			if i == 0 && err == unix.EINVAL {
				return nil, errOldKernel
			}
			return nil, fmt.Errorf("layer %s: %w", l, explain(fs, err))
		}
	}
	if o.Upper != "" {
		if err := set("upperdir", o.Upper); err != nil {
			return nil, fmt.Errorf("upper folder %s: %w", o.Upper, explain(fs, err))
		}
		if err := set("workdir", o.Work); err != nil {
			return nil, fmt.Errorf("work folder %s: %w", o.Work, explain(fs, err))
		}
	}
	for name, on := range map[string]bool{"volatile": o.Volatile && o.Upper != "", "userxattr": o.UserXattr} {
		if on {
			if err := unix.FsconfigSetFlag(fs, name); err != nil {
				return nil, fmt.Errorf("option %s: %w", name, explain(fs, err))
			}
		}
	}
	_ = unix.FsconfigSetString(fs, "source", "berth")
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, explain(fs, err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, explain(fs, err)
	}
	return &Tree{f: os.NewFile(uintptr(fd), "overlay"), what: "overlay"}, nil
}

// overlayByText uses mount(2), whose text may fill a page. Descriptors make short names of long paths. It runs in a
// mount namespace of its own, from which it brings a detached copy of the mount.
func overlayByText(o OverlayOptions) (*Tree, error) {
	var handles []*os.File
	defer func() {
		for _, h := range handles {
			h.Close()
		}
	}()
	name := func(path string) (string, error) {
		h, err := os.OpenFile(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		handles = append(handles, h)
		return HandlePath(h), nil
	}
	names := make([]string, len(o.Lowers))
	for i, l := range o.Lowers {
		n, err := name(l)
		if err != nil {
			return nil, err
		}
		names[i] = n
	}
	data := "lowerdir=" + strings.Join(names, ":")
	if o.Upper != "" {
		u, e1 := name(o.Upper)
		w, e2 := name(o.Work)
		if e1 != nil || e2 != nil {
			return nil, fmt.Errorf("upper folder %s: %w", o.Upper, firstOf(e1, e2))
		}
		data += ",upperdir=" + u + ",workdir=" + w
		if o.Volatile {
			data += ",volatile"
		}
	}
	if o.UserXattr {
		data += ",userxattr"
	}
	if len(data) >= os.Getpagesize() {
		return nil, errs.New(errs.Unsupported, "", fmt.Errorf("%d layers are too many for this kernel (Linux 6.7 takes 500)", len(o.Lowers)))
	}
	target := o.Lowers[0]
	if err := unix.Mount("berth", target, "overlay", 0, data); err != nil {
		return nil, err
	}
	h, err := os.OpenFile(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	t, err := Bind(h, false)
	if err == nil {
		t.what = "overlay"
	}
	return t, err
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// idmapped mounts each lower through the id maps, on a tmpfs of this mount namespace: overlayfs takes no detached mounts
// as layers before Linux 6.15.
func idmapped(o OverlayOptions) ([]string, error) {
	const dir = "/tmp"
	tmp, err := Filesystem("tmpfs", "layers", Options{})
	if err != nil {
		return nil, err
	}
	defer tmp.Close()
	at, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	handles := make([]*os.File, len(o.Lowers))
	for i, l := range o.Lowers {
		if handles[i], err = os.OpenFile(l, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return nil, err
		}
		defer handles[i].Close()
	}
	if err := tmp.Attach(at, "a place for the layers as the container's users see them"); err != nil {
		return nil, err
	}
	out := make([]string, len(o.Lowers))
	for i := range o.Lowers {
		out[i] = filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(out[i], 0o700); err != nil {
			return nil, err
		}
		if err := bindMapped(handles[i], out[i], o.UserNS); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func bindMapped(source *os.File, target string, userns *os.File) error {
	t, err := Bind(source, false)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := t.IDMap(userns, false); err != nil {
		return err
	}
	h, err := os.OpenFile(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer h.Close()
	return t.Attach(h, "root of the container owns what root owns in the layer")
}

// inMountNamespace runs fn on a thread in a mount namespace of its own, both of which end with it.
func inMountNamespace(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
				return err
			}
			return fn()
		}()
	}()
	return <-done
}
