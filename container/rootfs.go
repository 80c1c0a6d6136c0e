//go:build linux

package container

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/osthread"
	"github.com/berth-containers/berth/linux/lsm"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/linux/tty"
)

// makeRootfs builds the container's file system below its root, in init's own mount namespace, while the host's files
// are still there to take things from. Every target is a handle below the root.
func (p *initProcess) makeRootfs() error {
	// What is mounted here must not appear on the host: before anything else.
	spread := uintptr(unix.MS_PRIVATE | unix.MS_REC)
	if p.spreads() {
		spread = unix.MS_SLAVE | unix.MS_REC // mounts of the host still come in, none go out
	}
	if err := mount.SetPropagation("/", spread, "no mount of the container ever appears on the host"); err != nil {
		return err
	}
	root, err := p.openRootfs()
	if err != nil {
		return err
	}
	r := &rootfs{initProcess: p, root: root}
	for i := range p.Mounts {
		if err := r.mount(&p.Mounts[i]); err != nil {
			return err
		}
	}
	for _, step := range []func() error{r.makeDevices, r.makeConsole, r.makeCwd, r.mask, r.protect, r.setReadonly} {
		if err := step(); err != nil {
			return err
		}
	}
	p.newRoot = root
	return nil
}

// spreads reports whether some mount wants to see what the host mounts later.
func (p *initProcess) spreads() bool {
	for _, m := range p.Mounts {
		for _, o := range m.Options {
			if f := mount.Propagation(o); f&(unix.MS_SLAVE|unix.MS_SHARED) != 0 {
				return true
			}
		}
	}
	return strings.HasSuffix(p.Root.Propagation, "slave") || strings.HasSuffix(p.Root.Propagation, "shared")
}

// openRootfs puts the root in place, which has to be a mount for pivot_root, and opens it.
func (p *initProcess) openRootfs() (*mount.Root, error) {
	at, err := os.OpenFile(p.Root.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errs.New(errs.Invalid, "open root file system", err)
	}
	defer at.Close()
	if f := mount.Propagation(p.Root.Propagation); f&unix.MS_SLAVE == 0 { // of a root that becomes a slave the mount that it is taken from is one
		if err := mount.PrivateParent(at, "what is mounted on the host later does not come in"); err != nil {
			return nil, err
		}
	}
	var tree *mount.Tree
	if p.Rootfs > 0 {
		unix.CloseOnExec(p.Rootfs)
		tree = mount.TreeAt(os.NewFile(uintptr(p.Rootfs), "overlay"))
	} else if tree, err = mount.Bind(at, true); err != nil {
		return nil, err
	}
	defer tree.Close()
	if err := tree.Attach(at, "the image's layers with the container's write layer on top"); err != nil {
		return nil, err
	}
	return mount.OpenRoot(p.Root.Path)
}

// enterRootfs leaves the host's files behind.
func (p *initProcess) enterRootfs() error {
	defer p.newRoot.Close()
	if f := mount.Propagation(p.Root.Propagation); f&(unix.MS_SHARED|unix.MS_SLAVE|unix.MS_UNBINDABLE) != 0 {
		defer func() { _ = mount.SetPropagation("/", uintptr(f), "as rootfsPropagation says") }()
	}
	if p.NoPivot {
		return mount.MoveRoot(p.newRoot)
	}
	return mount.PivotRoot(p.newRoot)
}

// rootfs is the root while it is being built.
type rootfs struct {
	*initProcess
	root    *mount.Root
	later   []string // become read-only at the end
	hostDev bool     // /dev is the host's: nothing is made in it
	empty   struct { // what hides others
		tree         *mount.Tree
		file, folder *os.File
	}
}

// mount makes one mount.
func (r *rootfs) mount(m *Mount) error {
	o, err := mount.ParseOptions(m.Options)
	if err != nil {
		return err
	}
	switch m.Type {
	case "bind":
		return r.bind(m, o)
	case "cgroup", "cgroup2":
		return r.mountCgroup(m, o)
	}
	return r.mountNew(m, o)
}

// mountNew makes a file system.
func (r *rootfs) mountNew(m *Mount, o mount.Options) error {
	if m.Type == "tmpfs" || m.Destination == "/dev" {
		r.inherit(m, &o)
		if o.Set&unix.MOUNT_ATTR_RDONLY != 0 { // when what belongs into it is there
			o.Set &^= unix.MOUNT_ATTR_RDONLY
			r.later = append(r.later, m.Destination)
		}
	}
	why := "as the specification says"
	switch m.Type {
	case "proc":
		why = "the container sees its own processes"
	case "sysfs":
		why = "the container sees its own network links"
	case "tmpfs":
		why = "files in memory"
	case "devpts":
		why = "terminals of its own"
	case "mqueue":
		why = "message queues of its own"
	}
	target, err := r.folder(m)
	if err != nil {
		return err
	}
	defer target.Close()
	var tree *mount.Tree
	if m.Handle > 0 {
		tree = m.handed()
		err = tree.SetAttr(o)
	} else {
		o.Data = append(o.Data, r.label(m.Type)...)
		tree, err = mount.Filesystem(m.Type, source(m), o)
	}
	if m.Type == "sysfs" && errors.Is(err, unix.EPERM) {
		// A user namespace may mount a sysfs only with a network namespace of its own: the host's is shown, read-only.
		return r.bind(&Mount{Destination: m.Destination, Type: "bind", Source: "/sys", Options: append(m.Options, "rbind", "ro")}, mount.Options{Bind: true, Recursive: true, Set: unix.MOUNT_ATTR_RDONLY})
	}
	if err != nil {
		return err
	}
	defer tree.Close()
	if o.CopyUp {
		if err := mount.CopyUp(target, tree); err != nil {
			return err
		}
	}
	if m.Type == "mqueue" && r.MountLabel != "" {
		if err := lsm.LabelFile(mount.HandlePath(tree.File()), r.MountLabel); err != nil {
			return errs.Wrap("label "+m.Destination, err)
		}
	}
	if err := tree.Attach(target, why); err != nil {
		return err
	}
	return spread(tree, o)
}

// label is the option of a new file system whose files have the container's context of SELinux. Those of the kernel's
// own, which show all of the host, have theirs by the policy; a queue's are labelled one by one.
func (p *Plan) label(fstype string) []string {
	switch fstype {
	case "proc", "sysfs", "mqueue":
		return nil
	}
	if p.MountLabel == "" {
		return nil
	}
	return []string{mount.LabelOption(p.MountLabel)}
}

// inherit gives a tmpfs that names no mode that of the folder below it, as runc.
func (r *rootfs) inherit(m *Mount, o *mount.Options) {
	if slices.ContainsFunc(o.Data, func(d string) bool { return strings.HasPrefix(d, "mode=") }) {
		return
	}
	if st, err := r.root.Lstat(m.Destination); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		o.Data = append(slices.Clone(o.Data), fmt.Sprintf("mode=%04o", st.Mode&0o7777))
	}
}

func source(m *Mount) string {
	if m.Source == "" {
		return m.Type
	}
	return m.Source
}

func spread(t *mount.Tree, o mount.Options) error {
	if o.Propagation == 0 {
		return nil
	}
	return t.SetPropagation(o.Propagation, o.RecPropagation)
}

// folder opens or makes the folder that a file system is mounted on. A procfs or sysfs must go onto a real folder: one
// reached by a link would leave the masks on another (CVE-2019-19921, CVE-2023-27561).
func (r *rootfs) folder(m *Mount) (*os.File, error) {
	if m.Type == "proc" || m.Type == "sysfs" {
		if st, err := r.root.Lstat(m.Destination); err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil, errs.New(errs.Invalid, "mount "+m.Type+" on "+m.Destination, fmt.Errorf("must be mounted on ordinary directory"))
		}
	}
	return r.root.MkdirAll(m.Destination, 0o755)
}

// bind shows a file or folder of the host.
func (r *rootfs) bind(m *Mount, o mount.Options) error {
	src, tree, err := bindSource(m, &o)
	if err != nil {
		return errs.New(errs.Invalid, "mount "+m.Source+" on "+m.Destination, err)
	}
	defer src.Close()
	fi, err := src.Stat()
	if err != nil {
		return errs.Wrap("mount "+m.Source, err)
	}
	var target *os.File
	if fi.IsDir() {
		target, err = r.root.MkdirAll(m.Destination, 0o755)
	} else {
		target, err = r.root.Create(m.Destination, 0o644)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	if err := notIntoProc(m, src, target); err != nil {
		return err
	}
	if tree == nil {
		tree, err = mount.Bind(src, o.Recursive)
	}
	if errors.Is(err, unix.EINVAL) && foreign(m.Source) {
		tree, err = bindForeign(m.Source, o.Recursive)
	}
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := tree.SetAttr(o); err != nil {
		return err
	}
	if err := tree.Attach(target, "a file or folder of the host appears in the container"); err != nil {
		return err
	}
	if m.Destination == "/dev" {
		r.hostDev = true
	}
	// Unless it was asked for, what is mounted below later on the host does not come in.
	if o.Propagation == 0 {
		return tree.SetPropagation(unix.MS_PRIVATE, true)
	}
	return spread(tree, o)
}

// inProc are the files of procfs that a user may replace, as runc lets him: those that tell of the host what a container
// may want to see otherwise (lxcfs).
const inProc = " /proc/cpuinfo /proc/diskstats /proc/meminfo /proc/stat /proc/swaps /proc/uptime /proc/loadavg /proc/slabinfo /proc/net/dev " +
	"/proc/sys/kernel/ns_last_pid /proc/sys/crypto/fips_enabled "

// notIntoProc refuses to show something else as procfs, or in it: programs would believe it, and what is masked there
// would not be (CVE-2019-16884, CVE-2023-27561). The target's file system is asked: a link may have led there.
func notIntoProc(m *Mount, src, target *os.File) error {
	var st unix.Statfs_t
	if path.Clean(m.Destination) == "/proc" {
		if err := unix.Fstatfs(int(src.Fd()), &st); err == nil && st.Type != unix.PROC_SUPER_MAGIC {
			return errs.Text(errs.Invalid, m.Source+" cannot be mounted on /proc because it is not of type proc")
		}
		return nil
	}
	if err := unix.Fstatfs(int(target.Fd()), &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return err
	}
	if !strings.Contains(inProc, " "+path.Clean(m.Destination)+" ") {
		return errs.Text(errs.Invalid, m.Source+" cannot be mounted on "+m.Destination+" because it is inside /proc")
	}
	return nil
}

// bindSource opens what is to be shown. It is a mount already when the parent has made it.
func bindSource(m *Mount, o *mount.Options) (src *os.File, tree *mount.Tree, err error) {
	if m.Handle > 0 {
		tree = m.handed()
		return tree.File(), tree, nil
	}
	src, err = o.OpenSource(m.Source)
	return src, nil, err
}

// handed is the mount that the parent has made.
func (m *Mount) handed() *mount.Tree {
	unix.CloseOnExec(m.Handle)
	return mount.TreeAt(os.NewFile(uintptr(m.Handle), m.Source))
}

// foreign reports whether a source is in another process's mount namespace: /proc/PID/root/….
func foreign(source string) bool {
	parts := strings.SplitN(source, "/", 5)
	return len(parts) == 5 && parts[1] == "proc" && parts[3] == "root"
}

// bindForeign takes a mount out of another process's mount namespace, which only a thread in that namespace can do. No
// link on the way is followed: the other container's processes could change it.
func bindForeign(source string, recursive bool) (tree *mount.Tree, err error) {
	parts := strings.SplitN(source, "/", 5)
	pid, err := strconv.Atoi(parts[2])
	if err != nil {
		return nil, errs.New(errs.Invalid, "mount "+source, err)
	}
	kind, _ := namespace.ByName("mount")
	ns, err := namespace.Open(pid, kind)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	err = osthread.Run(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return errs.Wrap("unshare working directory", err)
		}
		if err := namespace.Enter(ns, kind); err != nil {
			return err
		}
		fd, err := unix.Openat2(unix.AT_FDCWD, "/"+parts[4], &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
		if err != nil {
			return errs.New(errs.Invalid, "mount "+source, err)
		}
		at := os.NewFile(uintptr(fd), source)
		defer at.Close()
		tree, err = mount.Bind(at, recursive)
		return err
	})
	return tree, err
}

// makeDevices makes the device nodes and links of /dev.
func (r *rootfs) makeDevices() error {
	if r.hostDev {
		return nil
	}
	for _, d := range r.Devices {
		if err := r.device(&d); err != nil {
			return errs.Wrap("make device "+d.Path, err)
		}
	}
	for _, l := range [...][2]string{{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"}, {"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"}, {"pts/ptmx", "/dev/ptmx"}} {
		if err := r.root.Symlink(l[0], l[1]); err != nil {
			return errs.Wrap("make link "+l[1], err)
		}
	}
	return nil
}

// device makes a node; in a user namespace, where mknod is refused, the host's node is shown.
func (r *rootfs) device(d *Device) error {
	err := unix.EPERM
	if !r.has("user") || d.Mode&unix.S_IFMT == unix.S_IFIFO {
		e := r.root.Mknod(d.Path, d.Mode, unix.Mkdev(d.Major, d.Minor))
		if e == nil {
			return r.own(d)
		}
		if !errors.As(e, &err) || err != unix.EPERM && err != unix.EEXIST {
			return e
		}
		if err == unix.EEXIST { // an image or a mount that brings its own /dev
			if st, serr := r.root.Lstat(d.Path); serr == nil && st.Mode&unix.S_IFMT == d.Mode&unix.S_IFMT && st.Rdev == unix.Mkdev(d.Major, d.Minor) {
				return nil
			}
			return fmt.Errorf("something else is there")
		}
	}
	src, oerr := d.onHost()
	if oerr != nil {
		return oerr
	}
	defer src.Close()
	target, oerr := r.root.Create(d.Path, 0o666)
	if oerr != nil {
		return oerr
	}
	defer target.Close()
	tree, oerr := mount.Bind(src, false)
	if oerr != nil {
		return oerr
	}
	defer tree.Close()
	if err := tree.SetAttr(mount.Options{Set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC}); err != nil {
		return err
	}
	return tree.Attach(target, "a user namespace makes no device nodes: the host's is shown")
}

// onHost opens the host's node of the device: the one at the same path, if it is the same device, or where the kernel says
// that it is (/sys/dev).
func (d *Device) onHost() (*os.File, error) {
	names, kind := []string{d.Path}, "char"
	if d.Mode&unix.S_IFMT == unix.S_IFBLK {
		kind = "block"
	}
	b, _ := os.ReadFile(fmt.Sprintf("/sys/dev/%s/%d:%d/uevent", kind, d.Major, d.Minor))
	for _, line := range strings.Split(string(b), "\n") {
		if name, ok := strings.CutPrefix(line, "DEVNAME="); ok {
			names = append(names, "/dev/"+name)
		}
	}
	for _, name := range names {
		src, err := os.OpenFile(name, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(src.Fd()), &st); err == nil && st.Mode&unix.S_IFMT == d.Mode&unix.S_IFMT && st.Rdev == unix.Mkdev(d.Major, d.Minor) {
			return src, nil
		}
		src.Close()
	}
	return nil, fmt.Errorf("the host has no node of device %d:%d, and a user namespace makes none", d.Major, d.Minor)
}

func (r *rootfs) own(d *Device) error {
	if d.UID == 0 && d.GID == 0 {
		return nil
	}
	f, err := r.root.Open(d.Path, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer f.Close()
	return mount.Chown(f, d.UID, d.GID)
}

// makeConsole makes a terminal in the container's own devpts and shows its slave as /dev/console. Both ends are
// descriptors: no name is looked up (CVE-2025-52565).
func (r *rootfs) makeConsole() error {
	if !r.Process.Terminal {
		return nil
	}
	pts, err := r.root.Open("/dev/pts", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return errs.Wrap("open terminal", err)
	}
	defer pts.Close()
	if r.console, r.slave, err = tty.Open(pts, r.Process.Width, r.Process.Height); err != nil {
		return err
	}
	target, err := r.root.Create("/dev/console", 0o600)
	if err != nil {
		return err
	}
	defer target.Close()
	tree, err := mount.Bind(r.slave, false)
	if err != nil {
		return err
	}
	defer tree.Close()
	return tree.Attach(target, "the container's console is its terminal")
}

// makeCwd makes the working directory, which an image may name and not have, as every runtime does. Where it cannot be
// made, entering it tells why.
func (r *rootfs) makeCwd() error {
	if f, err := r.root.MkdirAll(r.Process.Cwd, 0o755); err == nil {
		f.Close()
	}
	return nil
}

// mask hides paths under something empty of our own: an image cannot put anything in its place, as it could with its
// /dev/null (CVE-2025-31133).
func (r *rootfs) mask() error {
	for _, m := range r.Masked {
		target, err := r.root.Open(m, unix.O_PATH|unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return errs.Wrap("mask "+m, err)
		}
		err = r.hide(target)
		target.Close()
		if err != nil {
			return errs.Wrap("mask "+m, err)
		}
	}
	if r.empty.tree == nil {
		return nil
	}
	r.empty.file.Close()
	r.empty.folder.Close()
	defer r.empty.tree.Close()
	// It lies on the root, which hooks are to find as it was when they enter this namespace (nsenter).
	return errs.Wrap("mask", r.empty.tree.Detach("the place of what masks others"))
}

func (r *rootfs) hide(target *os.File) error {
	fi, err := target.Stat()
	if err != nil {
		return err
	}
	if fi.Mode()&os.ModeSymlink != 0 {
		return fmt.Errorf("it is a symbolic link")
	}
	if r.empty.file == nil {
		if err := r.makeEmpty(); err != nil {
			return err
		}
	}
	from := r.empty.file
	if fi.IsDir() {
		from = r.empty.folder
	}
	tree, err := mount.Bind(from, false)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := tree.SetAttr(mount.Options{Set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	return tree.Attach(target, "it tells about the host, or reaches it")
}

// makeEmpty makes a file without content and a folder without files in a file system of our own. Only of what is
// attached somewhere can there be further mounts: on top of the host's root no look-up passes.
func (r *rootfs) makeEmpty() error {
	tree, err := mount.Filesystem("tmpfs", "mask", mount.Options{Data: append(r.label("tmpfs"), "size=4k", "nr_inodes=4", "mode=0555")})
	if err != nil {
		return err
	}
	r.empty.tree = tree
	at, err := os.OpenFile("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer at.Close()
	top := int(tree.File().Fd())
	file, err := unix.Openat(top, "file", unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return err
	}
	r.empty.file = os.NewFile(uintptr(file), "an empty file")
	if err := unix.Mkdirat(top, "folder", 0o555); err != nil {
		return err
	}
	folder, err := unix.Openat(top, "folder", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	r.empty.folder = os.NewFile(uintptr(folder), "an empty folder")
	return tree.Attach(at, "a place for the file and the folder that mask others")
}

// protect makes paths read-only.
func (r *rootfs) protect() error {
	for _, m := range r.Readonly {
		target, err := r.root.Open(m, unix.O_PATH|unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err == nil {
			err = r.bindReadonly(target)
			target.Close()
		}
		if err != nil {
			return errs.Wrap("make "+m+" read-only", err)
		}
	}
	return nil
}

func (r *rootfs) bindReadonly(target *os.File) error {
	tree, err := mount.Bind(target, true)
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := tree.SetAttr(mount.Options{Set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return err
	}
	return tree.Attach(target, "it can be read and not written")
}

func (r *rootfs) setReadonly() error {
	for _, path := range r.later {
		at, err := r.root.Open(path, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		err = mount.Remount(at, mount.Options{Set: unix.MOUNT_ATTR_RDONLY}, "nothing more is made in it")
		at.Close()
		if err != nil {
			return err
		}
	}
	if !r.Root.Readonly {
		return nil
	}
	return mount.Remount(r.root.Dir(), mount.Options{Set: unix.MOUNT_ATTR_RDONLY}, "the container writes to volumes only")
}
