//go:build linux

// Package leaks looks for what should not be there: control groups, network namespaces, links, processes, locks and files
// that belong to no container, because something was killed at a bad moment, or because of a mistake of ours. Nothing of a
// container that runs, or is being started, is ever one; nor is what belongs to another engine on the same host.
package leaks

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/linux/mount"
)

// Leak is one thing that should not be there.
type Leak struct {
	Kind  string // control group, network namespace, link, process, folder, name, file
	What  string // its path, name or number
	Why   string
	mend  func() error
	Fixed bool
	Error string `json:",omitempty"` // why it could not be mended
}

// settled is how old a thing must be: younger ones may be somebody's who is just making them.
const settled = 5 * time.Second

// Find looks for leaks of an engine. With fix they are removed.
func Find(e *engine.Engine, fix bool) ([]Leak, error) {
	f := &finder{e: e}
	for _, look := range []func() error{f.folders, f.names, f.namespaces, f.groups, f.links, f.monitors} {
		if err := look(); err != nil {
			return nil, err
		}
	}
	for i := range f.found {
		if l := &f.found[i]; fix {
			if err := l.mend(); err != nil {
				l.Error = err.Error()
				continue
			}
			l.Fixed = true
		}
	}
	return f.found, nil
}

type finder struct {
	e     *engine.Engine
	found []Leak
}

func (f *finder) add(kind, what, why string, mend func() error) {
	f.found = append(f.found, Leak{Kind: kind, What: what, Why: why, mend: mend})
}

// idle reports whether an id is that of no container, or of one that does not run, and says so.
func (f *finder) idle(id string) (why string, idle bool) {
	has, busy := f.e.Has(id)
	switch {
	case busy:
		return "", false
	case has:
		return "its container does not run", true
	}
	return "there is no such container", true
}

func list(dir string) []os.DirEntry {
	entries, _ := os.ReadDir(dir) // a folder that is not there has nothing
	return entries
}

func old(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && time.Since(fi.ModTime()) > settled
}

func isID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// folders are those of running containers, and those of containers that were never finished.
func (f *finder) folders() error {
	for _, sub := range []string{"containers", "runtime", "endpoints"} {
		dir := filepath.Join(f.e.State(), sub)
		for _, entry := range list(dir) {
			path, id := filepath.Join(dir, entry.Name()), entry.Name()
			if why, idle := f.idle(id); idle && isID(id) && old(path) {
				f.add("folder", path, why, func() error {
					f.e.Clean(id)
					return os.RemoveAll(path)
				})
			}
		}
	}
	dir := filepath.Join(f.e.Root(), "containers")
	for _, entry := range list(dir) {
		path := filepath.Join(dir, entry.Name())
		if _, err := os.Lstat(filepath.Join(path, "config.json")); errors.Is(err, fs.ErrNotExist) && old(path) {
			f.add("folder", path, "its container was not finished, or not removed wholly", func() error { return os.RemoveAll(path) })
		}
	}
	return nil
}

func (f *finder) names() error {
	dir := filepath.Join(f.e.Root(), "names")
	for _, entry := range list(dir) {
		path := filepath.Join(dir, entry.Name())
		target, err := os.Readlink(path)
		if has, _ := f.e.Has(filepath.Base(target)); err == nil && !has && old(path) {
			f.add("name", path, "there is no such container", func() error { return os.Remove(path) })
		}
	}
	return nil
}

func (f *finder) namespaces() error {
	dir := filepath.Join(f.e.State(), "netns")
	for _, entry := range list(dir) {
		path := filepath.Join(dir, entry.Name())
		if why, idle := f.idle(entry.Name()); idle && isID(entry.Name()) {
			f.add("network namespace", path, why, func() error {
				f.e.Clean(entry.Name())
				_ = mount.Unmount(path, unix.MNT_DETACH, "it belongs to no container")
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				return nil
			})
		}
	}
	return nil
}

// groups are control groups without a process. One with processes that is not ours may be another engine's.
func (f *finder) groups() error {
	g, err := cgroup.New("/berth")
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, dir := range g.State().Dirs {
		for _, entry := range list(dir) {
			path := filepath.Join(dir, entry.Name())
			why, idle := f.idle(entry.Name())
			if !entry.IsDir() || !isID(entry.Name()) || !idle || seen[path] || !old(path) || populated(path) {
				continue
			}
			seen[path] = true
			f.add("control group", path, why, func() error { return removeGroup(path) })
		}
	}
	return nil
}

func populated(dir string) (found bool) {
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "cgroup.procs" {
			b, _ := os.ReadFile(path)
			found = found || len(b) > 0
		}
		return nil
	})
	return found
}

// removeGroup removes a group and those below it, the deepest first.
func removeGroup(dir string) error {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		err := trace.Step("rmdir", "it belongs to no container", "group", d).Do(func() error { return unix.Rmdir(d) })
		if err != nil && err != unix.ENOENT {
			return errs.Wrap("remove control group "+d, err)
		}
	}
	return nil
}

// links are the host's ends of veth pairs, which carry the first digits of their container's id.
func (f *finder) links() error {
	busy := map[string]bool{}
	for _, entry := range list(filepath.Join(f.e.Root(), "containers")) {
		if _, running := f.e.Has(entry.Name()); running && len(entry.Name()) >= 8 {
			busy[entry.Name()[:8]] = true
		}
	}
	lost, err := f.e.LostLinks(func(digits string) bool { return busy[digits] })
	for _, link := range lost {
		f.add("link", link, "no running container has it", func() error {
			f.e.Unplug(link)
			return nil
		})
	}
	return err
}

// monitors are processes that hold the lock of a container that is not there any more.
func (f *finder) monitors() error {
	prefix := filepath.Join(f.e.Root(), "containers") + "/"
	for _, entry := range list("/proc") {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile("/proc/" + entry.Name() + "/cmdline")
		if err != nil || string(cmdline) != "berth-runtime\x00monitor\x00" {
			continue
		}
		held, err := os.Readlink("/proc/" + entry.Name() + "/fd/4")
		path, gone := strings.CutSuffix(held, " (deleted)")
		if err != nil || !gone || !strings.HasPrefix(path, prefix) {
			continue
		}
		f.add("process", entry.Name(), "the monitor of a container that is gone", func() error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return nil // it has ended
			}
			defer unix.Close(fd)
			return errs.Wrap("end process "+entry.Name(), unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0))
		})
	}
	return nil
}
