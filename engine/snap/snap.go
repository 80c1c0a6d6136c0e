//go:build linux

// Package snap keeps states of containers' write layers, and goes back to them. A snapshot is a copy of the folder that
// the container writes; where the file system can (xfs, btrfs), it shares its data with the original and costs nothing
// but names. Snapshots lie in the container's folder and go with it:
//
//	containers/<id>/snapshots/<name>/{snap.json,fs}
//
// Volumes are no part of it, as they are none of commit.
package snap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/image/layer"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/mount"
)

// BeforeUndo is the snapshot of what the last undo took away.
const BeforeUndo = "before-undo"

// Snapshot is one state of a container.
type Snapshot struct {
	Name      string
	Container string // its name
	Created   time.Time
	Size      int64 // bytes of the files in it; the file system may share them
}

// unfinished begins the names of folders that are not snapshots yet.
const unfinished = ".new-"

func folder(c *engine.Container) string { return filepath.Join(c.Folder(), "snapshots") }

func writeLayer(c *engine.Container) string { return filepath.Join(c.Folder(), "rw", "fs") }

// locked keeps others from making, removing and using snapshots of the container.
func locked(c *engine.Container, do func(dir string) error) error {
	dir := folder(c)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return errs.Wrap("keep snapshots of container "+c.Name, err)
	}
	lock, err := flock.Exclusive(filepath.Join(dir, "lock"))
	if err != nil {
		return errs.Wrap("keep snapshots of container "+c.Name, err)
	}
	defer lock.Unlock()
	left, _ := filepath.Glob(filepath.Join(dir, unfinished+"*")) // of somebody who was killed
	for _, path := range left {
		_ = os.RemoveAll(path)
	}
	return do(dir)
}

// checkName is Docker's rule for names of volumes.
func checkName(name string) error {
	letter := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	if name == "" || len(name) > 128 || !letter(rune(name[0])) || strings.ContainsFunc(name, func(r rune) bool { return !letter(r) && !strings.ContainsRune("_.-", r) }) {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid name of a snapshot: %q: only [a-zA-Z0-9][a-zA-Z0-9_.-]* are allowed", name))
	}
	return nil
}

// Make makes a snapshot; with an empty name it gets the next free number. A container that runs stands still meanwhile.
func Make(c *engine.Container, name string) (*Snapshot, error) {
	if name != "" {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	var s *Snapshot
	err := locked(c, func(dir string) (err error) {
		if name == "" {
			name = freeNumber(dir)
		}
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return errs.Text(errs.Conflict, "container "+c.Name+" has a snapshot named "+name+" already")
		}
		if c.Inspect(false).State.Status == docker.StateRunning {
			if err := c.Pause(); err != nil && !errs.Is(err, errs.Conflict) {
				return err
			}
			defer func() {
				if uerr := c.Unpause(); uerr != nil && !errs.Is(uerr, errs.Conflict) && err == nil {
					err = uerr
				}
			}()
		}
		s, err = keep(c, dir, name, func(to string) error { return copyLayer(writeLayer(c), to, c.Name) })
		return err
	})
	if err == nil {
		c.Tell("snapshot", "snapshot", s.Name)
	}
	return s, err
}

func freeNumber(dir string) string {
	for n := 1; ; n++ {
		if _, err := os.Lstat(filepath.Join(dir, strconv.Itoa(n))); err != nil {
			return strconv.Itoa(n)
		}
	}
}

func copyLayer(from, to, container string) error {
	return trace.Step("copy", "the write layer as it is now", "container", container, "to", to).Do(func() error {
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
		return mount.CopyTree(from, to)
	})
}

// keep makes a snapshot of what is in the write layer, which fill brings; it is there as a whole or not at all. When fill
// begins nothing can fail any more for want of room for the snapshot itself.
func keep(c *engine.Container, dir, name string, fill func(to string) error) (*Snapshot, error) {
	temporary := filepath.Join(dir, unfinished+name)
	defer os.RemoveAll(temporary)
	if err := os.Mkdir(temporary, 0o700); err != nil {
		return nil, errs.Wrap("snapshot container "+c.Name, err)
	}
	s := &Snapshot{Name: name, Container: c.Name, Created: time.Now().UTC(), Size: layer.Size(writeLayer(c))}
	if err := atomicfile.WriteJSON(filepath.Join(temporary, "snap.json"), s, atomicfile.Durable); err != nil {
		return nil, errs.Wrap("snapshot container "+c.Name, err)
	}
	if err := fill(filepath.Join(temporary, "fs")); err != nil {
		return nil, errs.Wrap("snapshot container "+c.Name, err)
	}
	return s, errs.Wrap("snapshot container "+c.Name, os.Rename(temporary, filepath.Join(dir, name)))
}

// List lists the snapshots of a container, the oldest first.
func List(c *engine.Container) ([]Snapshot, error) {
	entries, err := os.ReadDir(folder(c))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap("list snapshots", err)
	}
	var out []Snapshot
	for _, e := range entries {
		var s Snapshot
		if atomicfile.ReadJSON(filepath.Join(folder(c), e.Name(), "snap.json"), &s) == nil && s.Name == e.Name() {
			s.Container = c.Name // it may have got another one
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Snapshot) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// find returns the folder of a snapshot's files.
func find(c *engine.Container, name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	dir := filepath.Join(folder(c), name, "fs")
	if _, err := os.Lstat(dir); err != nil {
		return "", errs.Text(errs.NotFound, "No such snapshot of container "+c.Name+": "+name).WithHint("see `berth snap ls " + c.Name + "`")
	}
	return dir, nil
}

// Remove removes a snapshot.
func Remove(c *engine.Container, name string) error {
	return locked(c, func(dir string) error {
		if _, err := find(c, name); err != nil {
			return err
		}
		gone := filepath.Join(dir, unfinished+name)
		if err := os.Rename(filepath.Join(dir, name), gone); err != nil {
			return errs.Wrap("remove snapshot "+name, err)
		}
		return errs.Wrap("remove snapshot "+name, os.RemoveAll(gone))
	})
}

// Branch makes a container like another one, with what the snapshot holds; "" is what the container holds now, while it
// stands still. Its volumes are the named ones of the other, and new ones in the place of anonymous ones.
func Branch(e *engine.Engine, c *engine.Container, snapshot, name string) (*engine.Container, error) {
	var branch *engine.Container
	err := locked(c, func(string) (err error) {
		from := writeLayer(c)
		if snapshot != "" {
			if from, err = find(c, snapshot); err != nil {
				return err
			}
		} else if c.Inspect(false).State.Status == docker.StateRunning && c.Pause() == nil {
			defer c.Unpause()
		}
		if branch, err = e.Create(c.Another(name)); err != nil {
			return err
		}
		err = branch.WhileStopped(func() error {
			return errs.Wrap("branch container "+c.Name, mount.CopyTree(from, writeLayer(branch)))
		})
		if err != nil {
			_ = branch.Remove(engine.RemoveOptions{Volumes: true})
		}
		return err
	})
	return branch, err
}

// Undo brings a container back to a snapshot; "" is its newest but that of the last undo. It is stopped for it, and runs
// again if it ran. What it takes away is kept as the snapshot before-undo, so that an undo can be undone.
func Undo(c *engine.Container, snapshot string) (name string, err error) {
	if c.HostConfig.AutoRemove {
		return "", errs.Text(errs.Conflict, "container "+c.Name+" goes with its end (--rm), and an undo has to stop it")
	}
	if snapshot == "" {
		if snapshot, err = newest(c); err != nil {
			return "", err
		}
	}
	if _, err := find(c, snapshot); err != nil {
		return "", err
	}
	ran := c.Running()
	if ran {
		if err := c.Stop(engine.StopOptions{}); err != nil && !errs.Is(err, errs.NotModified) {
			return "", err
		}
	}
	err = locked(c, func(dir string) error {
		return c.WhileStopped(func() error { return exchange(c, dir, snapshot) })
	})
	if err == nil {
		c.Tell("undo", "snapshot", snapshot)
	}
	if ran {
		if _, serr := c.Start(engine.StartOptions{}); err == nil {
			err = serr
		}
	}
	return snapshot, err
}

func newest(c *engine.Container) (string, error) {
	list, err := List(c)
	if err != nil {
		return "", err
	}
	for _, s := range slices.Backward(list) {
		if s.Name != BeforeUndo {
			return s.Name, nil
		}
	}
	return "", errs.Text(errs.NotFound, "container "+c.Name+" has no snapshot").WithHint("berth snap " + c.Name)
}

// exchange puts a copy of the snapshot in the place of the write layer, at once (renameat2(2), RENAME_EXCHANGE).
func exchange(c *engine.Container, dir, snapshot string) error {
	from, err := find(c, snapshot) // under the lock now
	if err != nil {
		return err
	}
	next := filepath.Join(c.Folder(), "rw", "next")
	if err := os.RemoveAll(next); err != nil { // of somebody who was killed
		return errs.Wrap("undo container "+c.Name, err)
	}
	defer os.RemoveAll(next)
	if err := copyLayer(from, next, c.Name); err != nil {
		return errs.Wrap("undo container "+c.Name, err)
	}
	if snapshot != BeforeUndo {
		err = os.RemoveAll(filepath.Join(dir, BeforeUndo))
	} else { // its copy is made, and its name is wanted
		err = os.Rename(filepath.Join(dir, BeforeUndo), filepath.Join(dir, unfinished+"undone"))
	}
	if err != nil {
		return errs.Wrap("undo container "+c.Name, err)
	}
	_, err = keep(c, dir, BeforeUndo, func(to string) error {
		err := trace.Step("renameat2 RENAME_EXCHANGE", "the container has the one or the other, whatever happens", "a", next, "b", writeLayer(c)).Do(func() error {
			return unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, writeLayer(c), unix.RENAME_EXCHANGE)
		})
		if err != nil {
			return os.NewSyscallError("renameat2", err)
		}
		return os.Rename(next, to)
	})
	_ = os.RemoveAll(filepath.Join(dir, unfinished+"undone"))
	return err
}
