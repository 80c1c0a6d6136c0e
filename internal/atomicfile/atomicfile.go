// Package atomicfile replaces a small file as a whole: readers, who take no lock, see the old content or the new one.
package atomicfile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
)

// Durability says whether a write must survive a power cut.
type Durability bool

const (
	Fast    Durability = false // throw-away state: rename only
	Durable Durability = true  // fsync the file, rename, fsync the folder
)

var serial atomic.Uint64

// Write puts data into a new file beside path and renames it into place. On an error path is as it was and nothing
// is left beside it.
func Write(path string, data []byte, perm os.FileMode, d Durability) (err error) {
	dir := filepath.Dir(path)
	tmp := filepath.Join(dir, ".tmp-"+filepath.Base(path)+"-"+strconv.Itoa(os.Getpid())+"-"+strconv.FormatUint(serial.Add(1), 36))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(tmp)
		}
	}()
	_, err = f.Write(data)
	if err == nil && d == Durable {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil && d == Durable {
		err = SyncDir(dir)
	}
	return err
}

// WriteJSON is [Write] of v as indented JSON, mode 0600.
func WriteJSON(path string, v any, d Durability) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return Write(path, append(b, '\n'), 0o600, d)
}

// ReadJSON reads a file that [WriteJSON] wrote.
func ReadJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return &os.PathError{Op: "decode", Path: path, Err: err}
	}
	return nil
}

// SyncDir makes the names in a folder durable: the renames, links and unlinks made in it so far.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
