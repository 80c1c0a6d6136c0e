//go:build linux

package monitor

import (
	"encoding/json"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/flock"
	"github.com/berth-containers/berth/internal/listing"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/nft"
)

// finish writes down how the container ended and undoes what was made for it. Only then is anybody told: who has heard
// of the end finds nothing left.
func (m *monitor) finish(exit *Exit) {
	close(m.finished)
	m.mu.Lock()
	m.gone = true
	m.mu.Unlock()
	exit.Restarts = m.status.Restarts
	if m.Exit != "" {
		keepExit(m.Exit, exit)
	} else if m.Begun != "" {
		_ = os.Remove(m.Begun) // nobody must take it for the end, while the rest goes
	}
	if m.control != nil {
		m.control.Close()
	}
	m.log.Close()
	m.leaveNetworks()
	m.Undo.Run()
	m.leave()
	for _, path := range m.Remove {
		_ = os.RemoveAll(path)
	}
	kept := map[string]bool{}
	for _, volume := range m.Idle {
		kept[filepath.Base(volume.Dir)] = !volume.leave()
	}
	m.tellAfter(len(m.Remove) > 0, kept)
	for _, f := range m.held {
		f.Close()
	}
	_ = unix.Flock(lockFD, unix.LOCK_UN) // a start of the container need not wait for the end of this process
}

// keepExit writes the end down. On a full disk there is no room for a second file; then it takes the place of what was
// written at the begin, whose block is there.
func keepExit(file string, exit *Exit) {
	if atomicfile.WriteJSON(file, exit, atomicfile.Fast) == nil {
		return
	}
	b, err := json.Marshal(exit)
	if err != nil {
		return
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if n, err := f.WriteAt(b, 0); err == nil {
		_ = f.Truncate(int64(n))
	}
}

// leaveNetworks finds out what ends the container's places in networks: the record of each says it, also of those that it
// joined later.
func (m *monitor) leaveNetworks() {
	if m.Names == nil {
		return
	}
	m.Names.Zone.Records.DropAliases(m.ID, "")
	records, _ := listing.Folder(m.Names.Zone.Places)
	for _, r := range records {
		var place struct {
			Undo Undo `json:"undo"`
		}
		if atomicfile.ReadJSON(filepath.Join(m.Names.Zone.Places, r.Name()), &place) == nil {
			m.Undo.Files, m.Undo.Batches = append(m.Undo.Files, place.Undo.Files...), append(m.Undo.Batches, place.Undo.Batches...)
		}
	}
}

// leave unmounts a volume's device, and drops the volume if it is to go, when no container has it any more. Who begins to
// use it holds the lock.
func (v Idle) leave() (gone bool) {
	lock, err := flock.Exclusive(filepath.Join(v.Dir, "lock"))
	if err != nil {
		return false
	}
	defer lock.Unlock()
	users, err := os.Open(filepath.Join(v.Dir, "users"))
	if err != nil {
		return false
	}
	defer users.Close()
	if names, _ := users.Readdirnames(1); len(names) > 0 {
		return false
	}
	// It fails where nothing is mounted.
	_ = mount.Unmount(filepath.Join(v.Dir, "_data"), 0, "no container uses the volume")
	trash := filepath.Join(filepath.Dir(v.Dir), ".gone-"+filepath.Base(v.Dir))
	if !v.Drop || os.Rename(v.Dir, trash) != nil {
		return false
	}
	_ = os.RemoveAll(trash)
	return true
}

// leave removes the folder by which the monitor is found. Nobody comes after it, so it tries twice.
func (m *monitor) leave() {
	for range 2 {
		if trace.Step("unlink", "nothing of the running container is left", "dir", m.Dir).Do(func() error { return os.RemoveAll(m.Dir) }) == nil {
			return
		}
	}
}

// Run undoes. It may run twice, and what is gone already is no error.
func (u *Undo) Run() {
	for _, path := range u.Unmount {
		_ = mount.Unmount(path, unix.MNT_DETACH, "it was the container's")
		_ = os.Remove(path)
	}
	_ = nft.SendEach(u.Batches)
	for _, path := range u.Files {
		if os.Remove(path) == nil {
			_ = os.Remove(filepath.Dir(path)) // if it was the last one
		}
	}
}
