//go:build linux

package mountpoint

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/mount"

	"github.com/berth-containers/berth/internal/errs"
)

// flag is a --mount that is being read.
type flag struct {
	docker.Mount
	owner  Owner
	caller IDMap // what idmap=me means
}

// ParseFlag reads a --mount: pairs of key and value, separated by commas, in the rules of CSV. The owner is for what
// Docker's type of it cannot hold; caller is the id map that "me" stands for. A value that cannot be understood is an
// error: readonly=yes must not leave a mount writable.
func ParseFlag(text string, caller IDMap) (docker.Mount, Owner, error) {
	f := flag{Mount: docker.Mount{Type: docker.TypeVolume}, caller: caller}
	fields, err := csv.NewReader(strings.NewReader(strings.TrimSpace(text))).Read()
	if err != nil {
		return f.Mount, f.owner, errs.New(errs.Invalid, "--mount", err)
	}
	for _, field := range fields {
		if err := f.field(field); err != nil {
			return f.Mount, f.owner, err
		}
	}
	return f.Mount, f.owner, f.check()
}

func (f *flag) field(field string) error {
	key, value, hasValue := strings.Cut(field, "=")
	if strings.TrimSpace(key) != key {
		return badField("invalid option '%s' in '%s': option should not have whitespace", strings.TrimSpace(key), field)
	}
	if strings.TrimSpace(value) != value {
		return badField("invalid value for '%s' in '%s': value should not have whitespace", key, field)
	}
	key = strings.ToLower(key)
	if to := f.flagOf(key); to != nil {
		*to = !hasValue || value == "1" || value == "true"
		if !*to && value != "0" && value != "false" {
			return badField(`invalid value for '%s': invalid boolean value (%q): must be one of "true", "1", "false", or "0" (default "true")`, key, value)
		}
		return nil
	}
	if key != "idmap" && !hasValue {
		return badField("invalid field '%s' must be a key=value pair", field)
	}
	if hasValue && value == "" {
		return badField("invalid value for '%s': value is empty", key)
	}
	known, err := f.set(key, value)
	if !known {
		known, err = f.setOption(key, value)
	}
	switch {
	case !known:
		return badField("unknown option '%s' in '%s'", key, field)
	case err != nil && !errs.Is(err, errs.Invalid):
		return badField("invalid value for %s: %s", key, value)
	}
	return err
}

// flagOf is what a key that is set or not sets; nil for those that have values.
func (f *flag) flagOf(key string) *bool {
	switch key {
	case "readonly", "ro":
		return &f.ReadOnly
	case "bind-nonrecursive":
		return &f.bind().NonRecursive
	case "bind-create-src":
		return &f.bind().CreateMountpoint
	case "volume-nocopy":
		return &f.volume().NoCopy
	case "u", "chown":
		return &f.owner.Own
	}
	return nil
}

// set takes what every type of mount has.
func (f *flag) set(key, value string) (known bool, err error) {
	switch key {
	case "type":
		f.Type = docker.Type(strings.ToLower(value))
	case "source", "src":
		if f.Source = value; strings.HasPrefix(value, ".") {
			f.Source, err = filepath.Abs(value)
		}
	case "target", "dst", "destination":
		f.Target = value
	case "consistency":
		f.Consistency = docker.Consistency(strings.ToLower(value))
	case "idmap":
		switch value {
		case "":
			value = "auto"
		case "me":
			value = string(f.caller)
		}
		f.owner.IDMap = IDMap(value)
	default:
		return false, nil
	}
	return true, err
}

// setOption takes what one type of mount has.
func (f *flag) setOption(key, value string) (known bool, err error) {
	name, content, _ := strings.Cut(value, "=")
	switch key {
	case "bind-propagation":
		f.bind().Propagation = docker.Propagation(strings.ToLower(value))
	case "bind-recursive":
		b := f.bind()
		b.NonRecursive, b.ReadOnlyNonRecursive, b.ReadOnlyForceRecursive = value == "disabled", value == "writable", value == "readonly"
		if value != "enabled" && *b == (docker.BindOptions{Propagation: b.Propagation, CreateMountpoint: b.CreateMountpoint}) {
			err = badField(`invalid value for %s: %s (must be "enabled", "disabled", "writable", or "readonly")`, key, value)
		}
	case "volume-subpath":
		f.volume().Subpath = value
	case "volume-label":
		f.volume().Labels[name] = content
	case "volume-driver":
		f.driver().Name = value
	case "volume-opt":
		f.driver().Options[name] = content
	case "image-subpath":
		f.ImageOptions = &docker.ImageOptions{Subpath: value}
	case "tmpfs-size":
		f.tmpfs().SizeBytes, err = units.RAMInBytes(value)
	case "tmpfs-mode":
		var mode uint64
		mode, err = strconv.ParseUint(value, 8, 32)
		f.tmpfs().Mode = os.FileMode(mode)
	default:
		return false, nil
	}
	return true, err
}

func (f *flag) bind() *docker.BindOptions {
	if f.BindOptions == nil {
		f.BindOptions = &docker.BindOptions{}
	}
	return f.BindOptions
}

func (f *flag) volume() *docker.VolumeOptions {
	if f.VolumeOptions == nil {
		f.VolumeOptions = &docker.VolumeOptions{Labels: map[string]string{}}
	}
	return f.VolumeOptions
}

func (f *flag) driver() *docker.Driver {
	v := f.volume()
	if v.DriverConfig == nil {
		v.DriverConfig = &docker.Driver{Options: map[string]string{}}
	}
	return v.DriverConfig
}

func (f *flag) tmpfs() *docker.TmpfsOptions {
	if f.TmpfsOptions == nil {
		f.TmpfsOptions = &docker.TmpfsOptions{}
	}
	return f.TmpfsOptions
}

// check refuses what does not go together.
func (f *flag) check() error {
	for _, o := range []struct {
		prefix string
		given  bool
		of     docker.Type
	}{
		{"bind", f.BindOptions != nil, docker.TypeBind}, {"volume", f.VolumeOptions != nil, docker.TypeVolume},
		{"image", f.ImageOptions != nil, docker.TypeImage}, {"tmpfs", f.TmpfsOptions != nil, docker.TypeTmpfs},
	} {
		if o.given && f.Type != o.of {
			return badField("cannot mix '%s-*' options with mount type '%s'", o.prefix, f.Type)
		}
	}
	if f.Target == "" {
		return badField("target is required")
	}
	b := f.BindOptions
	switch {
	case b == nil:
	case b.ReadOnlyNonRecursive && !f.ReadOnly:
		return badField("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
	case b.ReadOnlyForceRecursive && !f.ReadOnly:
		return badField("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
	case b.ReadOnlyForceRecursive && b.Propagation != docker.PropagationRPrivate:
		return badField("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")
	}
	return nil
}
