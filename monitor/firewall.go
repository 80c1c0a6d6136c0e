//go:build linux

package monitor

import (
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/linux/nft"
)

// Repair is how a firewall that somebody has flushed is put back: by the engine, which knows the rules.
type Repair struct {
	Argv []string `json:"argv"` // the engine's command
	Lock string   `json:"lock"` // file that all monitors of the engine share
}

// Of many monitors that notice the same deletion one does something: they wait a little, each as long as chance says, and
// the first leaves its time in the file.
const (
	leastPause = 30 * time.Millisecond
	mostPause  = 300 * time.Millisecond
)

// guardFirewall waits for rules to be deleted and for other firewalls to come, until this process ends.
func (r *Repair) guardFirewall() {
	f, err := nft.Watch()
	if err != nil {
		return
	}
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 1<<10)
	for {
		err := rc.Read(func(fd uintptr) (some bool) {
			for { // until all of it is read; what was lost counts as read
				if _, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT); err == unix.EAGAIN {
					return some
				}
				some = true
			}
		})
		if err != nil {
			return
		}
		noticed := time.Now()
		time.Sleep(leastPause + rand.N(mostPause-leastPause))
		r.run(noticed)
	}
}

func (r *Repair) run(noticed time.Time) {
	lock, err := os.OpenFile(r.Lock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return // somebody is about it
	}
	if fi, err := lock.Stat(); err != nil || fi.Size() > 0 && fi.ModTime().After(noticed) {
		return // somebody has done it
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer null.Close()
	p, err := os.StartProcess(r.Argv[0], r.Argv, &os.ProcAttr{Files: []*os.File{null, null, null}})
	if err != nil {
		return // the next command of the engine that needs the firewall puts it back
	}
	_, _ = p.Wait()
	_, _ = lock.WriteAt([]byte("."), 0)
}
