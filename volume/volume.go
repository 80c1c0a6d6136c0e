//go:build linux

package volume

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
	"github.com/berth-containers/berth/linux/quota"
)

// Volume is one volume, as kept in volumes/<name>/volume.json; its JSON is Docker's.
type Volume struct {
	Name       string            `json:"Name"`
	Driver     string            `json:"Driver"` // "local"
	CreatedAt  time.Time         `json:"CreatedAt"`
	Mountpoint string            `json:"Mountpoint"` // the folder with the data
	Labels     map[string]string `json:"Labels"`
	Options    map[string]string `json:"Options"`
	Scope      string            `json:"Scope"` // "local"
}

// anonymousLabel marks volumes that nobody named, as Docker does; prune takes only those unless told otherwise.
const anonymousLabel = "com.docker.volume.anonymous"

// Anonymous reports whether the volume got its name from us.
func (v *Volume) Anonymous() bool {
	_, ok := v.Labels[anonymousLabel]
	return ok
}

// Store is the folder of all volumes.
type Store struct {
	dir      string
	projects *quota.Projects
	// Tell, unless it is nil, hears which volumes come into being ("create") and go ("destroy").
	Tell func(action, name string)
}

// Open makes a store of the engine's data root. It touches nothing.
func Open(root string) *Store {
	return &Store{dir: filepath.Join(root, "volumes"), projects: quota.OpenProjects(root)}
}

func (s *Store) tell(action, name string) {
	if s.Tell != nil {
		s.Tell(action, name)
	}
}

func (s *Store) path(name string, more ...string) string {
	return filepath.Join(append([]string{s.dir, name}, more...)...)
}

// CheckName refuses what could be a path or is refused by Docker.
func CheckName(name string) error {
	ok := len(name) > 1
	for i, c := range []byte(name) {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		ok = ok && (alnum || i > 0 && (c == '_' || c == '.' || c == '-'))
	}
	if !ok || len(name) > 255 {
		return errs.Text(errs.Invalid, fmt.Sprintf("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name, name))
	}
	return nil
}

// Create makes a volume; an empty name gives an anonymous one. A volume that is there with the same driver and options
// is returned as it is, as Docker does; with others it is a conflict.
func (s *Store) Create(name string, labels, options map[string]string) (*Volume, error) {
	if labels = maps.Clone(labels); labels == nil {
		labels = map[string]string{}
	}
	if name == "" {
		b := make([]byte, 32)
		_, _ = rand.Read(b)
		name = hex.EncodeToString(b)
		labels[anonymousLabel] = ""
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := checkOptions(options); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return nil, errs.Wrap("create volume "+name, err)
	}
	if v, err := s.Get(name); err == nil {
		if !equal(v.Options, options) {
			return nil, errs.Text(errs.Conflict, "create "+name+": volume already exists with other options")
		}
		return v, nil
	}
	return s.create(name, labels, options, nil)
}

// create builds the volume beside its place and renames it there: of several creators one wins, and all get its volume.
// fill, unless it is nil, puts the data in; it may take its time, and when it fails or is killed there is no volume.
func (s *Store) create(name string, labels, options map[string]string, fill func(data string) error) (*Volume, error) {
	v := &Volume{Name: name, Driver: "local", CreatedAt: time.Now().UTC().Truncate(time.Second),
		Mountpoint: s.path(name, "_data"), Labels: labels, Options: options, Scope: "local"}
	tmp, err := os.MkdirTemp(s.dir, ".new-")
	if err != nil {
		return nil, errs.Wrap("create volume "+name, err)
	}
	defer os.RemoveAll(tmp)
	err = os.Mkdir(filepath.Join(tmp, "_data"), 0o755)
	if err == nil {
		// Whatever the umask: the container's users must be able to enter.
		err = os.Chmod(filepath.Join(tmp, "_data"), 0o755)
	}
	if err == nil {
		err = os.Chmod(tmp, 0o711)
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(tmp, "users"), 0o700)
	}
	if err == nil && options["size"] != "" {
		err = s.bound(tmp, options["size"])
	}
	if err == nil && fill != nil {
		err = s.fill(tmp, fill)
	}
	if err == nil {
		err = atomicfile.WriteJSON(filepath.Join(tmp, "volume.json"), v, atomicfile.Durable)
	}
	if err == nil {
		err = os.Rename(tmp, s.path(name))
	}
	if err == nil {
		err = atomicfile.SyncDir(s.dir)
	}
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		if fill != nil {
			return nil, taken(name)
		}
		return s.Get(name)
	}
	if err == nil && options["size"] != "" {
		err = s.projects.Move(quota.Project(v.Mountpoint), s.path(name))
	}
	if err != nil {
		return nil, errs.Wrap("create volume "+name, err)
	}
	s.tell("create", name)
	return v, nil
}

func taken(name string) error {
	return errs.Text(errs.Conflict, "create "+name+": a volume of this name already exists")
}

// fill puts data into a volume that is being made. The lock, which is the volume's later, tells Sweep that somebody is at
// work; what was written is on the disk before the volume can be seen.
func (s *Store) fill(tmp string, fill func(data string) error) error {
	lock, err := flock.Exclusive(filepath.Join(tmp, "lock"))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	data := filepath.Join(tmp, "_data")
	if err := fill(data); err != nil {
		return err
	}
	return syncfs(data)
}

// Empty reports whether a folder is there and has nothing in it.
func Empty(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return errors.Is(err, io.EOF)
}

// Begin lets fill put the first data into a volume that is empty, for a container that has it. Of several containers one
// does so, and the others wait. A plain folder that nobody else has is filled beside its place, so that who is killed
// meanwhile leaves an empty volume, not half of what the image has.
func (s *Store) Begin(v *Volume, container string, fill func(data string) error) error {
	lock, err := s.lock(v.Name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if !Empty(v.Mountpoint) {
		return nil
	}
	if users := s.Users(v.Name); len(v.Options) > 0 || len(users) > 1 || len(users) == 1 && users[0] != container {
		return fill(v.Mountpoint)
	}
	tmp := s.path(v.Name, "_data.new")
	defer os.RemoveAll(tmp)
	err = os.RemoveAll(tmp)
	if err == nil {
		err = os.Mkdir(tmp, 0o755)
	}
	if err == nil {
		err = fill(tmp)
	}
	if err == nil && !v.Anonymous() { // it outlives the container, and what was written must be there when its name is
		err = syncfs(tmp)
	}
	if err == nil {
		err = unix.Rename(tmp, v.Mountpoint) // package os refuses a folder that is there, empty or not
	}
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, fs.ErrExist) { // somebody has copied files into it meanwhile
		return nil
	}
	return errs.Wrap("fill volume "+v.Name, err)
}

func syncfs(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// Get finds a volume by its whole name.
func (s *Store) Get(name string) (*Volume, error) {
	v := new(Volume)
	err := CheckName(name)
	if err == nil {
		err = atomicfile.ReadJSON(s.path(name, "volume.json"), v)
	}
	if err != nil {
		return nil, errs.Text(errs.NotFound, "get "+name+": no such volume").WithHint("see `berth volume ls`")
	}
	return v, nil
}

// List returns all volumes sorted by name. A damaged one is left out; it never hides the others.
func (s *Store) List() ([]*Volume, error) {
	es, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap("list volumes", err)
	}
	var out []*Volume
	for _, e := range es {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if v, err := s.Get(e.Name()); err == nil {
			out = append(out, v)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// Use records that a container has the volume, before the container starts; it lasts until Release. It fails when the
// volume is gone, so that nobody uses a folder that is being removed.
func (s *Store) Use(name, container string) error {
	lock, err := s.lock(name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	f, err := os.OpenFile(s.path(name, "users", container), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return errs.Wrap("use volume "+name, err)
	}
	return f.Close()
}

// Release forgets a container's use. Twice is once.
func (s *Store) Release(name, container string) {
	if CheckName(name) == nil {
		_ = os.Remove(s.path(name, "users", container))
	}
}

// Trace is the file that says that a container has a volume.
func (s *Store) Trace(name, container string) string { return s.path(name, "users", container) }

// Users lists the ids of the containers that have the volume.
func (s *Store) Users(name string) []string {
	es, _ := os.ReadDir(s.path(name, "users"))
	var ids []string
	for _, e := range es {
		ids = append(ids, e.Name())
	}
	return ids
}

func (s *Store) lock(name string) (*flock.Lock, error) {
	if _, err := s.Get(name); err != nil {
		return nil, err
	}
	l, err := flock.Exclusive(s.path(name, "lock"))
	return l, errs.Wrap("lock volume "+name, err)
}

// Remove deletes a volume that no container has. exists tells whether a user is still a container; one that is none is
// no user.
func (s *Store) Remove(name string, exists func(container string) bool) error {
	return s.Discard(name, exists, func() string { return "" })
}

// Discard is [Store.Remove] that keeps the volume's folder, as data in the folder that into makes, unless that is "". One
// with a device or a bound is not kept: these may be others' by the time it comes back.
func (s *Store) Discard(name string, exists func(container string) bool, into func() string) error {
	lock, err := s.lock(name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	for _, id := range s.Users(name) {
		if exists(id) {
			return errs.Text(errs.Conflict, fmt.Sprintf("remove %s: volume is in use - [%s]", name, id))
		}
	}
	if err := s.unmount(name); err != nil {
		return err
	}
	if v, err := s.Get(name); err == nil && len(v.Options) == 0 {
		if dir := into(); dir != "" {
			err := os.Rename(s.path(name), filepath.Join(dir, "data"))
			if err == nil {
				_ = atomicfile.SyncDir(s.dir)
				s.tell("destroy", name)
			}
			return errs.Wrap("remove volume "+name, err)
		}
	}
	trash, err := os.MkdirTemp(s.dir, ".gone-")
	if err != nil {
		return errs.Wrap("remove volume "+name, err)
	}
	if err := os.Rename(s.path(name), filepath.Join(trash, name)); err != nil {
		_ = os.Remove(trash)
		return errs.Wrap("remove volume "+name, err)
	}
	_ = atomicfile.SyncDir(s.dir)
	s.tell("destroy", name)
	return errs.Wrap("remove volume "+name, os.RemoveAll(trash))
}

// Restore brings back a volume whose folder was kept.
func (s *Store) Restore(name, folder string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	// A folder that is there and empty would be replaced by a rename: a volume never is.
	if _, err := os.Lstat(s.path(name)); err == nil {
		return errs.Text(errs.Conflict, "restore volume "+name+": there is one of that name")
	}
	if err := os.Rename(folder, s.path(name)); err != nil {
		return errs.Wrap("restore volume "+name, err)
	}
	s.tell("create", name)
	return errs.Wrap("restore volume "+name, atomicfile.SyncDir(s.dir))
}

// Unused lists the volumes that no container has: anonymous ones, or with all set every one.
func (s *Store) Unused(all bool, exists func(container string) bool) ([]*Volume, error) {
	vs, err := s.List()
	if err != nil {
		return nil, err
	}
	var out []*Volume
	for _, v := range vs {
		used := false
		for _, id := range s.Users(v.Name) {
			used = used || exists(id)
		}
		if !used && (all || v.Anonymous()) {
			out = append(out, v)
		}
	}
	return out, nil
}

// Sweep removes what killed creators and removers left behind.
func (s *Store) Sweep() error {
	es, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errs.Wrap("sweep volumes", err)
	}
	for _, e := range es {
		fi, err := e.Info()
		// A creator needs no minute between its MkdirTemp and its rename.
		if err == nil && (strings.HasPrefix(e.Name(), ".gone-") || strings.HasPrefix(e.Name(), ".new-")) && time.Since(fi.ModTime()) > time.Minute && !s.busy(e.Name()) {
			if err := os.RemoveAll(s.path(e.Name())); err != nil {
				return errs.Wrap("sweep volumes", err)
			}
		}
	}
	return nil
}

// busy reports whether somebody puts data into a volume that is not there yet.
func (s *Store) busy(tmp string) bool {
	if _, err := os.Lstat(s.path(tmp, "lock")); err != nil {
		return false
	}
	lock, err := flock.TryExclusive(s.path(tmp, "lock"))
	if err != nil || lock == nil {
		return true
	}
	lock.Unlock()
	return false
}
