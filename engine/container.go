//go:build linux

package engine

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-containers/berth/engine/idrange"
	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/engine/naming"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
	"github.com/berth-containers/berth/monitor"
)

// record is containers/<id>/config.json: what the user asked, and what was found for it when it was created.
type record struct {
	Config
	ID        string
	Created   time.Time
	ImageID   string             // sha256:…; "" of a container whose root is a folder of the host
	Lowers    []string           // trees of the image's layers, top first
	Process   process            // what runs, from the configuration and the image
	Mounts    []mountpoint.Point `json:",omitempty"` // volumes, bind mounts and tmpfs, in the order they are mounted
	Restarts  int                `json:",omitempty"`
	Anon      []string           `json:",omitempty"` // anonymous volumes that were made for it, or for one whose mounts it took
	IDRange   *idrange.Range     `json:",omitempty"` // of its user namespace
	UserAsked bool               `json:",omitempty"` // the user is not the image's
}

// Container is a container of an engine, running or not.
type Container struct {
	record
	e *Engine

	Notes []string // what a user should know of the container that was just made; kept nowhere
}

const (
	configFile = "config.json"
	exitFile   = "exit.json"
	logName    = "container-json.log"
)

// newID makes an id: 64 hexadecimal digits, not all of the first twelve decimal ones, so that the short id, which is
// the host name, is never taken for a number.
func newID() (string, error) {
	b := make([]byte, 32)
	for {
		if _, err := rand.Read(b); err != nil {
			return "", errs.Wrap("make id", err)
		}
		id := hex.EncodeToString(b)
		if strings.Trim(id[:12], "0123456789") != "" {
			return id, nil
		}
	}
}

// ShortID is what people use of an id.
func (c *Container) ShortID() string { return c.ID[:12] }

func (c *Container) dataDir() string { return c.e.dataDir(c.ID) }
func (c *Container) runDir() string  { return c.e.runDir(c.ID) }

// save writes config.json. Of a container that goes with its end nothing must survive a power cut.
func (c *Container) save() error {
	durable := atomicfile.Durability(!c.HostConfig.AutoRemove)
	return errs.Wrap("write container's configuration", atomicfile.WriteJSON(filepath.Join(c.dataDir(), configFile), &c.record, durable))
}

// lock keeps other processes from changing the container's state. Its monitor holds the lock as long as it lives.
func (c *Container) lock() (*flock.Lock, error) {
	return flock.TryExclusive(filepath.Join(c.dataDir(), "lock"))
}

// Folder is where everything that is kept of the container lies.
func (c *Container) Folder() string { return c.dataDir() }

// Tell writes down what was done with the container; more are pairs of what this has to say.
func (c *Container) Tell(action string, more ...string) { c.tell(action, more...) }

// WhileStopped does something to a container that does not run, and keeps it from running meanwhile.
func (c *Container) WhileStopped(do func() error) error {
	c.repair()
	lock, err := c.lock()
	if err != nil {
		return err
	}
	if lock == nil {
		return errs.Text(errs.Conflict, "container "+c.ID+" is running")
	}
	defer lock.Unlock()
	return do()
}

// change lets one command after the other change what is kept of the container, as it is now.
func (c *Container) change(do func() error) error {
	lock, err := flock.Exclusive(filepath.Join(c.dataDir(), "change.lock"))
	if err != nil {
		return errs.Wrap("change container "+c.Name, err)
	}
	defer lock.Unlock()
	now, err := c.e.open(c.ID)
	if err != nil {
		return err
	}
	c.record = now.record
	return do()
}

// waitForLock waits for the end of a monitor that has been told to end.
func (c *Container) waitForLock() (*flock.Lock, error) {
	return flock.Exclusive(filepath.Join(c.dataDir(), "lock"))
}

func (e *Engine) open(id string) (*Container, error) {
	c := &Container{e: e}
	err := atomicfile.ReadJSON(filepath.Join(e.dataDir(id), configFile), &c.record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, noSuchContainer(id)
	}
	if err != nil { // a file that is damaged: what is known without it is enough to remove the container
		c.record = record{ID: id}
		c.Name = e.nameOf(id)
		return c, errs.Wrap("open container "+id, err)
	}
	return c, nil
}

// nameOf looks for the name that means a container.
func (e *Engine) nameOf(id string) string {
	entries, _ := os.ReadDir(filepath.Join(e.root, "names"))
	for _, entry := range entries {
		if target, err := os.Readlink(filepath.Join(e.root, "names", entry.Name())); err == nil && filepath.Base(target) == id {
			return entry.Name()
		}
	}
	return ""
}

func noSuchContainer(name string) error {
	return errs.Text(errs.NotFound, "No such container: "+name)
}

// Lookup finds a container by its name, its id, or a unique prefix of its id. With one whose configuration is damaged,
// which can only be removed, it returns an error, too.
func (e *Engine) Lookup(name string) (*Container, error) {
	trimmed := strings.TrimPrefix(name, "/")
	if trimmed == "" || strings.ContainsRune(trimmed, '/') || trimmed[0] == '.' {
		return nil, noSuchContainer(name)
	}
	if len(trimmed) == 64 {
		if c, err := e.open(trimmed); c != nil {
			return c, err
		}
	}
	if target, err := os.Readlink(filepath.Join(e.root, "names", trimmed)); err == nil {
		if c, err := e.open(filepath.Base(target)); c != nil {
			return c, err
		}
	}
	if strings.Trim(trimmed, "0123456789abcdef") != "" {
		return nil, noSuchContainer(name)
	}
	ids, err := e.ids()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, id := range ids {
		if strings.HasPrefix(id, trimmed) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
		return nil, noSuchContainer(name)
	case 1:
		return e.open(found[0])
	}
	return nil, errs.Text(errs.Invalid, fmt.Sprintf("multiple IDs found with provided prefix: %s", trimmed))
}

// ids lists all containers' ids.
func (e *Engine) ids() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(e.root, "containers"))
	if err != nil {
		return nil, errs.Wrap("list containers", err)
	}
	var out []string
	for _, entry := range entries {
		if len(entry.Name()) == 64 {
			out = append(out, entry.Name())
		}
	}
	return out, nil
}

// all opens all containers, the newest first. A damaged one is left out; it never hides the others.
func (e *Engine) all() ([]*Container, error) {
	ids, err := e.ids()
	if err != nil {
		return nil, err
	}
	out := make([]*Container, len(ids))
	spread(len(ids), func(i int) {
		if c, err := e.open(ids[i]); err == nil {
			out[i] = c
		}
	})
	out = slices.DeleteFunc(out, func(c *Container) bool { return c == nil })
	sort.Slice(out, func(i, j int) bool { return out[i].Created.After(out[j].Created) })
	return out, nil
}

// spread does something for each number below n, on all CPUs: to read a thousand small files takes time.
func spread(n int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	all.Wait()
}

// exists reports whether an id is that of a container.
func (e *Engine) exists(id string) bool {
	_, err := os.Lstat(filepath.Join(e.dataDir(id), configFile))
	return err == nil
}

// takeName makes a name mean a container. Names are unique because making a link is.
func (e *Engine) takeName(name, id string) error {
	if err := checkName(name); err != nil {
		return err
	}
	link := filepath.Join(e.root, "names", name)
	for range 2 {
		err := os.Symlink("../containers/"+id, link)
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return errs.Wrap("take name "+name, err)
		}
		holder, err := os.Readlink(link)
		if err != nil {
			continue
		}
		other := filepath.Base(holder)
		if len(other) != 64 || !e.reclaim(other) {
			return errs.Text(errs.Conflict, fmt.Sprintf("Conflict. The container name %q is already in use by container %q. "+
				"You have to remove (or rename) that container to be able to reuse that name.", "/"+name, other))
		}
		_ = os.Remove(link)
	}
	return errs.Text(errs.Conflict, "the container name "+name+" is being taken by another process")
}

// reclaim removes what is there of a container whose maker was killed, and reports whether there is no such container: who
// makes one holds its lock until it has a configuration.
func (e *Engine) reclaim(id string) bool {
	if e.exists(id) {
		return false
	}
	lock, err := flock.TryExclusive(filepath.Join(e.dataDir(id), "lock"))
	if lock == nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	defer lock.Unlock()
	if e.exists(id) {
		return false
	}
	(&Container{record: record{ID: id}, e: e}).erase()
	return true
}

func (e *Engine) dropName(name, id string) {
	link := filepath.Join(e.root, "names", name)
	if target, err := os.Readlink(link); err == nil && filepath.Base(target) == id {
		_ = os.Remove(link)
	}
}

// checkName is Docker's rule for names: [a-zA-Z0-9][a-zA-Z0-9_.-]+.
func checkName(name string) error {
	ok := len(name) >= 2 && len(name) <= 253
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (letter || i > 0 && strings.IndexByte("_.-", c) >= 0)
	}
	if !ok {
		return errs.Text(errs.Invalid, fmt.Sprintf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name))
	}
	return nil
}

// now reads what the container does now: its monitor's word while it has one, and how it ended otherwise. Both are nil
// when it was never started. orphan says that its program runs without a monitor, which somebody has killed.
func (c *Container) now() (status *monitor.Status, exit *Exit, orphan bool) {
	status, orphan, err := monitor.ReadStatus(c.runDir())
	if err == nil && status != nil {
		return status, nil, false
	}
	exit = new(Exit)
	if atomicfile.ReadJSON(filepath.Join(c.dataDir(), exitFile), exit) != nil {
		exit = nil
	}
	if exit != nil && exit.Unseen && exists(c.runDir()) {
		return nil, nil, orphan // the host is up: it is its monitor that went away
	}
	if exit != nil && exit.Unseen {
		exit.FinishedAt = c.lastSign(exit.StartedAt)
	}
	return nil, exit, orphan
}

// lastSign is when a container whose end nobody saw was last known to live: its output was written then.
func (c *Container) lastSign(began time.Time) time.Time {
	if fi, err := os.Stat(filepath.Join(c.dataDir(), logName)); err == nil && fi.ModTime().After(began) {
		return fi.ModTime().UTC()
	}
	return began
}

// Running reports whether the container's program runs, paused or not.
func (c *Container) Running() bool {
	status, _, orphan := c.now()
	return orphan || status != nil && (status.Phase == monitor.Running || status.Phase == monitor.Paused)
}

// inventName takes a free name for a container.
func (e *Engine) inventName(id string) (string, error) {
	for try := 0; ; try++ {
		name := naming.Invent()
		if try > 5 {
			name += "_" + id[:6]
		}
		err := e.takeName(name, id)
		if err == nil || try > 10 {
			return name, err
		}
	}
}
