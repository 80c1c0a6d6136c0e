//go:build linux

// Package secret reads what a container shall find in a file and nobody else anywhere: a password, a key, and, with the
// same rules, a configuration.
//
// A value never stands in an argument list, a label, the container's configuration, its write layer or what inspect
// prints. A file and a command are asked anew at each start. What came by a variable or standard input is kept in the
// container's own folder, which only root can read, and goes with it. While the container runs, the file that it sees lies
// in the state folder, which is in memory (/run).
package secret

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Secret is one file.
type Secret struct {
	Name   string
	Target string // in the container, absolute
	UID    uint32 // ids of the container
	GID    uint32
	Mode   uint32

	File    string `json:",omitempty"` // of the host, read at each start
	Command string `json:",omitempty"` // for sh, run at each start: its output is the value
	Value   []byte `json:"-"`          // neither: kept by [Secret.Keep]
}

// Largest is how much a value may have, in bytes; it lies in memory.
const Largest = 1 << 20

// Sources is where values come from that are no files.
type Sources struct {
	Getenv func(string) (string, bool)
	Stdin  io.Reader // nil: it is somebody else's
}

// Parse reads a --secret or --config: pairs as id=NAME,src=FILE|env=VARIABLE|cmd=COMMAND|src=-, and target, uid, gid, mode.
// The target is below folder unless it is absolute.
func Parse(spec, folder string, from Sources) (*Secret, error) {
	bad := func(format string, args ...any) (*Secret, error) {
		return nil, errs.New(errs.Invalid, "read secret", fmt.Errorf(format, args...)).WithHint("id=NAME,src=FILE|env=VARIABLE|cmd=COMMAND|src=-[,target=PATH][,uid=N][,gid=N][,mode=0444]")
	}
	fields, err := csv.NewReader(strings.NewReader(spec)).Read()
	if err != nil {
		return bad("%w", err)
	}
	s := &Secret{Mode: 0o444}
	sources := 0
	for _, field := range fields {
		key, value, _ := strings.Cut(field, "=")
		var n uint64
		switch strings.ToLower(key) {
		case "id", "name":
			s.Name = value
		case "src", "source", "file":
			sources++
			if value != "-" {
				s.File, err = filepath.Abs(value)
				break
			}
			if from.Stdin == nil {
				return bad("standard input is the container's (-i)")
			}
			s.Value, err = read(from.Stdin)
		case "env":
			sources++
			text, ok := from.Getenv(value)
			if !ok {
				return bad("there is no variable %s", value)
			}
			s.Value = []byte(text)
		case "cmd", "command":
			sources++
			s.Command = value
		case "target", "dst", "destination":
			s.Target = value
		case "uid":
			n, err = strconv.ParseUint(value, 10, 31)
			s.UID = uint32(n)
		case "gid":
			n, err = strconv.ParseUint(value, 10, 31)
			s.GID = uint32(n)
		case "mode":
			n, err = strconv.ParseUint(value, 8, 12)
			s.Mode = uint32(n)
		default:
			return bad("unexpected key %q", key)
		}
		if err != nil {
			return bad("%s: %s is not a number for it", key, value)
		}
	}
	if s.Name == "" || strings.ContainsAny(s.Name, "/\x00") || s.Name[0] == '.' {
		return bad("%q is no name", s.Name)
	}
	if sources != 1 {
		return bad("secret %s has %d sources, it needs one", s.Name, sources)
	}
	if s.Target == "" {
		s.Target = s.Name
	}
	if !path.IsAbs(s.Target) {
		s.Target = path.Join(folder, path.Join("/", s.Target))
	}
	s.Target = path.Clean(s.Target)
	return s, nil
}

func read(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, Largest+1))
	if err == nil && len(b) > Largest {
		err = fmt.Errorf("it has more than %d bytes", Largest)
	}
	return b, err
}

// Check reports whether the value can be had, before anything is made.
func (s *Secret) Check() error {
	if s.File == "" {
		return nil
	}
	fi, err := os.Stat(s.File)
	if err == nil && !fi.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	if err != nil {
		return errs.New(errs.Invalid, "read secret "+s.Name, err)
	}
	return nil
}

// Keep stores a value that can be asked for only once in a folder that only root may enter.
func (s *Secret) Keep(dir string) error {
	if s.File != "" || s.Command != "" {
		return nil
	}
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = atomicfile.Write(filepath.Join(dir, s.Name), s.Value, 0o600, atomicfile.Durable)
	}
	return errs.Wrap("keep secret "+s.Name, err)
}

func (s *Secret) value(kept string) ([]byte, error) {
	switch {
	case s.Command != "":
		var said bytes.Buffer
		cmd := exec.Command("/bin/sh", "-c", s.Command)
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("its command: %s", strings.TrimSuffix(err.Error()+": "+strings.TrimSpace(said.String()), ": "))
		}
		return read(bytes.NewReader(out))
	case s.File != "":
		f, err := os.Open(s.File)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return read(f)
	}
	return os.ReadFile(filepath.Join(kept, s.Name))
}

// Place writes the value into a new file of a folder that only root may enter, and returns the file, which is to be shown
// at Target. uid and gid are the owner on the host.
func (s *Secret) Place(dir, kept string, uid, gid uint32) (file string, err error) {
	fail := func(err error) (string, error) { return "", errs.New(errs.Invalid, "read secret "+s.Name, err) }
	value, err := s.value(kept)
	if err != nil {
		return fail(err)
	}
	file = filepath.Join(dir, s.Name)
	err = trace.Step("write", "a secret lies in memory, in no layer and no argument", "file", file, "to", s.Target).Do(func() error {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) { // a life before this one
			return err
		}
		f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := f.Write(value); err != nil {
			return err
		}
		return errors.Join(f.Chown(int(uid), int(gid)), f.Chmod(os.FileMode(s.Mode&0o777)))
	})
	if err != nil {
		return fail(err)
	}
	return file, nil
}
