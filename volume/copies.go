//go:build linux

package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/quota"
	"github.com/berth-containers/berth/linux/usage"
)

// SnapshotLabel names the volume that a snapshot was taken of.
const SnapshotLabel = "berth.snapshot.of"

// WithData gives fn the folder with a volume's data. A volume with a device of its own is mounted meanwhile; exists tells
// whether one who has it is still a container.
func (s *Store) WithData(name string, exists func(container string) bool, fn func(dir string) error) error {
	v, err := s.Get(name)
	if err != nil {
		return err
	}
	if err := s.Mount(v); err != nil {
		return err
	}
	err = fn(v.Mountpoint)
	if !s.mounts(v) {
		return err
	}
	return errors.Join(err, s.Unmount(name, exists))
}

// Clone makes a volume with a copy of another's data, owners, links and holes included; where the file system can, both
// share what neither has changed. Labels are added to those of the original, whose device, if it has one, is not the
// copy's: that is a plain folder.
func (s *Store) Clone(name, as string, labels map[string]string, exists func(container string) bool) (v *Volume, err error) {
	original, err := s.Get(name)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(original.Labels)
	if all == nil {
		all = map[string]string{}
	}
	delete(all, anonymousLabel)
	maps.Copy(all, labels)
	err = s.WithData(name, exists, func(dir string) error {
		v, err = s.Fill(as, all, func(data string) error { return copyData(name, dir, data) })
		return err
	})
	return v, err
}

func copyData(name, dir, data string) error {
	return trace.Step("copy", "a volume with the same data", "volume", name, "to", data).Do(func() error {
		return mount.CopyTree(dir, data)
	})
}

// Fill makes a volume whose data fill writes. A volume that is there already is an error: its data are somebody's.
func (s *Store) Fill(name string, labels map[string]string, fill func(data string) error) (*Volume, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if _, err := s.Get(name); err == nil {
		return nil, taken(name)
	}
	if labels == nil {
		labels = map[string]string{}
	}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return nil, errs.Wrap("create volume "+name, err)
	}
	return s.create(name, labels, nil, fill)
}

// Snapshot clones a volume as a state that can be gone back to; with as empty its name is the volume's with the time.
func (s *Store) Snapshot(name, as string, exists func(container string) bool) (*Volume, error) {
	if as == "" {
		as = name + "-" + time.Now().UTC().Format("20060102-150405.000")
	}
	return s.Clone(name, as, map[string]string{SnapshotLabel: name}, exists)
}

// Rename gives a volume another name. It must not be in use: containers know their volumes by name.
func (s *Store) Rename(name, to string, exists func(container string) bool) error {
	if err := CheckName(to); err != nil {
		return err
	}
	lock, err := s.lock(name)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if err := s.unused(name, "rename", exists); err != nil {
		return err
	}
	if err := s.unmount(name); err != nil {
		return err
	}
	v, err := s.Get(name)
	if err != nil {
		return err
	}
	// The link is what makes the name the renamer's: the rename itself would replace what another has made meanwhile.
	err = trace.Step("rename", "the volume gets another name", "from", name, "to", to).Do(func() error {
		return unix.Renameat2(unix.AT_FDCWD, s.path(name), unix.AT_FDCWD, s.path(to), unix.RENAME_NOREPLACE)
	})
	if errors.Is(err, fs.ErrExist) {
		return taken(to)
	}
	if err == nil {
		v.Name, v.Mountpoint = to, s.path(to, "_data")
		delete(v.Labels, anonymousLabel)
		err = atomicfile.WriteJSON(s.path(to, "volume.json"), v, atomicfile.Durable)
	}
	if err == nil {
		err = s.projects.Move(quota.Project(v.Mountpoint), s.path(to))
	}
	if err == nil {
		err = atomicfile.SyncDir(s.dir)
	}
	if err != nil {
		return errs.Wrap("rename volume "+name, err)
	}
	s.tell("destroy", name)
	s.tell("create", to)
	return nil
}

// unused refuses to do something to a volume that containers have.
func (s *Store) unused(name, what string, exists func(container string) bool) error {
	for _, id := range s.Users(name) {
		if exists(id) {
			return errs.Text(errs.Conflict, fmt.Sprintf("%s %s: volume is in use - [%s]", what, name, id))
		}
	}
	return nil
}

// Export writes a volume's data as a tar archive; see [Pack].
func (s *Store) Export(w io.Writer, name string, exists func(container string) bool) error {
	return s.WithData(name, exists, func(dir string) error { return errs.Wrap("export volume "+name, Pack(w, dir)) })
}

// Import makes a volume with the content of an archive. A volume that is there must be empty and unused.
func (s *Store) Import(r io.Reader, name string, exists func(container string) bool) error {
	v, err := s.Get(name)
	if errs.Is(err, errs.NotFound) {
		_, err := s.Fill(name, nil, func(data string) error { return Unpack(r, data) })
		return errs.Wrap("import volume "+name, err)
	}
	if err != nil {
		return err
	}
	if err := s.unused(name, "import", exists); err != nil {
		return err
	}
	return s.WithData(name, exists, func(dir string) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return errs.Wrap("import volume "+name, err)
		}
		empty := !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() != "lost+found" })
		if !empty {
			return errs.New(errs.Conflict, "import volume "+name, errors.New("it is not empty")).WithHint("import into a new volume, or `berth volume rm " + name + "` first")
		}
		if err := Unpack(r, v.Mountpoint); err != nil {
			for _, e := range entriesOf(dir) { // half an archive is worth nothing
				_ = os.RemoveAll(filepath.Join(dir, e))
			}
			return errs.Wrap("import volume "+name, err)
		}
		return nil
	})
}

func entriesOf(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.Name() != "lost+found" {
			names = append(names, e.Name())
		}
	}
	return names
}

// Usage is what a volume takes of the disk: less than its files have with holes, more with many small files.
type Usage = usage.Usage

// DiskUsage counts a volume's files. One of several names counts once; other file systems mounted in it do not.
func (s *Store) DiskUsage(name string, exists func(container string) bool) (u Usage, err error) {
	err = s.WithData(name, exists, func(dir string) error {
		u, err = usage.Below(dir)
		return err
	})
	return u, errs.Wrap("measure volume "+name, err)
}

// File is one file of a volume.
type File struct {
	Path  string // below the volume
	Mode  fs.FileMode
	UID   uint32
	GID   uint32
	Size  int64 // bytes
	MTime time.Time
	Link  string `json:",omitempty"` // what a symbolic link names
}

// Files lists what is at a path of a volume, and with all set everything below it, in the order of names. A link cannot
// lead out of the volume (CVE-2017-1002101).
func (s *Store) Files(name, path string, all bool, exists func(container string) bool) (files []File, err error) {
	err = s.WithData(name, exists, func(dir string) error {
		root, err := mount.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		f, err := root.Open(path, unix.O_PATH)
		if errors.Is(err, fs.ErrNotExist) {
			return errs.Text(errs.NotFound, "no such file or directory in volume "+name+": "+path)
		}
		if err != nil {
			return errs.Wrap("list volume "+name, err)
		}
		defer f.Close()
		top := mount.HandlePath(f) + "/."
		if fi, err := f.Stat(); err == nil && !fi.IsDir() {
			files = append(files, newFile(filepath.Clean("/"+path), fi, ""))
			return err
		}
		return filepath.WalkDir(top, func(at string, entry fs.DirEntry, err error) error {
			if at == top {
				return err
			}
			fi, ierr := entry.Info()
			if err != nil || ierr != nil {
				return nil // it went away meanwhile
			}
			below, _ := filepath.Rel(top, at)
			link := ""
			if fi.Mode()&fs.ModeSymlink != 0 {
				link, _ = os.Readlink(at)
			}
			files = append(files, newFile(filepath.Join("/", filepath.Clean("/"+path), below), fi, link))
			if entry.IsDir() && !all {
				return fs.SkipDir
			}
			return nil
		})
	})
	return files, err
}

func newFile(path string, fi fs.FileInfo, link string) File {
	f := File{Path: path, Mode: fi.Mode(), Size: fi.Size(), MTime: fi.ModTime(), Link: link}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		f.UID, f.GID = st.Uid, st.Gid
	}
	return f
}
