//go:build linux

package flock

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Lock is a held lock.
type Lock struct{ f *os.File }

// Exclusive waits until it is the only holder of the lock file at path, which it makes if needed (mode 0600).
func Exclusive(path string) (*Lock, error) { return take(path, unix.LOCK_EX) }

// Shared waits until no exclusive holder is left.
func Shared(path string) (*Lock, error) { return take(path, unix.LOCK_SH) }

// TryExclusive is [Exclusive] that does not wait: it returns nil, nil when somebody else holds the lock.
func TryExclusive(path string) (*Lock, error) {
	l, err := take(path, unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return nil, nil
	}
	return l, err
}

func take(path string, how int) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Flock(int(f.Fd()), how)
		}
		if err == unix.EWOULDBLOCK {
			f.Close()
			return nil, err
		}
		if err != nil {
			f.Close()
			return nil, &os.PathError{Op: "lock", Path: path, Err: err}
		}
		// The file may have been removed, or replaced, between open and lock: then this lock guards nothing.
		held, err := f.Stat()
		if err == nil {
			if now, e := os.Stat(path); e == nil && os.SameFile(held, now) {
				return &Lock{f}, nil
			}
			if _, e := os.Stat(filepath.Dir(path)); e != nil {
				err = e
			}
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// Unlock gives the lock back and keeps its file, also while a process that is just being started still has a copy of it:
// between fork and execve it has all files. Unlocking nil does nothing.
func (l *Lock) Unlock() {
	if l != nil {
		_ = unix.Flock(int(l.f.Fd()), unix.LOCK_UN)
		l.f.Close()
	}
}

// Leave is Unlock for a lock that another process was given: that one goes on holding it.
func (l *Lock) Leave() { l.f.Close() }

// Remove gives the lock back and removes its file, for an object that is gone.
func (l *Lock) Remove() {
	if l != nil {
		_ = os.Remove(l.f.Name())
		l.Unlock()
	}
}

// File is the open file behind the lock, to hand the lock on to a child process.
func (l *Lock) File() *os.File { return l.f }
