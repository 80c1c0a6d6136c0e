//go:build linux

// Package logging reads what a user wrote about a container's log, --log-driver and --log-opt, in Docker's words, and
// says what the monitor is to do.
package logging

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/monitor/logs"
)

// Drivers are the names of what can be asked for, the default first.
var Drivers = []string{"json-file", "local", "journald", "syslog", "none"}

// Container is what is said of the container whose log it is.
type Container struct {
	ID, Name           string
	ImageID, ImageName string
	Args               []string
	Labels             map[string]string
	Env                []string // NAME=value
}

const (
	defaultSize  = 20 << 20 // bytes
	defaultFiles = 3
	localFiles   = 5 // as Docker's driver local
)

// known are the options of each driver, beside those of all.
var known = map[string][]string{
	"json-file": {"max-size", "max-file", "compress"},
	"local":     {"max-size", "max-file", "compress"},
	"journald":  {},
	"syslog":    {"syslog-address", "syslog-facility", "syslog-format", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"},
	"none":      {},
}

// ofAll are options that every driver takes.
var ofAll = []string{"labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"}

// Driver is the name of the driver that a configuration means.
func Driver(c docker.LogConfig) string {
	if c.Type == "" {
		return Drivers[0]
	}
	return c.Type
}

// Config says what the monitor does with the output; file is where a file may lie.
func Config(c docker.LogConfig, of Container, file string) (*logs.Config, error) {
	out, err := read(c, of, file)
	if err != nil {
		return nil, errs.New(errs.Invalid, "configure logs", err)
	}
	return out, nil
}

func read(c docker.LogConfig, of Container, file string) (*logs.Config, error) {
	driver := Driver(c)
	options, ok := known[driver]
	if !ok {
		return nil, fmt.Errorf("logger: no log driver named '%s' is registered: there are %s", driver, strings.Join(Drivers, ", "))
	}
	for _, key := range slices.Sorted(maps.Keys(c.Config)) {
		if !slices.Contains(options, key) && !slices.Contains(ofAll, key) {
			return nil, fmt.Errorf("unknown log opt '%s' for %s log driver", key, driver)
		}
	}
	out := &logs.Config{}
	switch mode := c.Config["mode"]; mode {
	case "", "blocking":
	case "non-blocking":
		out.NonBlocking = true
	default:
		return nil, fmt.Errorf("logger: logging mode not supported: %s", mode)
	}
	if size := c.Config["max-buffer-size"]; size != "" {
		if _, err := units.RAMInBytes(size); err != nil {
			return nil, fmt.Errorf("invalid max-buffer-size: %w", err)
		}
	}
	extra, err := attributes(c.Config, &of)
	if err != nil {
		return nil, err
	}
	tag, err := tagOf(c.Config["tag"], &of)
	if err != nil {
		return nil, err
	}
	switch driver {
	case "json-file", "local":
		files := defaultFiles
		if driver == "local" {
			files = localFiles
		}
		if c.Config["tag"] != "" {
			extra["tag"] = tag
		}
		out.Attrs = extra
		return out, rotation(out, c.Config, "", file, files)
	case "journald":
		out.Journald = journalFields(&of, tag, extra)
	case "syslog":
		if out.Syslog, err = syslog(c.Config, tag); err != nil {
			return nil, err
		}
		if off, err := boolean(c.Config, "cache-disabled", false); err != nil || off {
			return out, err
		}
		out.Attrs = extra
		return out, rotation(out, c.Config, "cache-", file, localFiles)
	}
	return out, nil
}

// rotation reads how large files become and how many there are.
func rotation(out *logs.Config, options map[string]string, prefix, file string, files int) (err error) {
	out.File, out.MaxSize, out.MaxFiles = file, defaultSize, files
	if v := options[prefix+"max-size"]; v == "-1" {
		out.MaxSize = 0
	} else if v != "" {
		if out.MaxSize, err = units.RAMInBytes(v); err != nil {
			return err
		}
		if out.MaxSize <= 0 {
			return errors.New("max-size must be a positive number")
		}
	}
	if v := options[prefix+"max-file"]; v != "" {
		if out.MaxFiles, err = strconv.Atoi(v); err != nil {
			return err
		}
		if out.MaxFiles < 1 {
			return errors.New("max-file cannot be less than 1")
		}
	}
	out.Compress, err = boolean(options, prefix+"compress", out.MaxFiles > 1)
	return err
}

func boolean(options map[string]string, key string, fallback bool) (bool, error) {
	v, ok := options[key]
	if !ok {
		return fallback, nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		return false, fmt.Errorf("invalid value for '%s': %s", key, v)
	}
	return b, nil
}

// attributes are labels and variables that go with each line.
func attributes(options map[string]string, of *Container) (map[string]string, error) {
	out := map[string]string{}
	variables := map[string]string{}
	for _, e := range of.Env {
		name, value, _ := strings.Cut(e, "=")
		variables[name] = value
	}
	for _, from := range []struct {
		option string
		values map[string]string
	}{{"labels", of.Labels}, {"env", variables}} {
		for _, name := range strings.Split(options[from.option], ",") {
			if v, ok := from.values[name]; ok {
				out[name] = v
			}
		}
		pattern := options[from.option+"-regex"]
		if pattern == "" {
			continue
		}
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, fmt.Errorf("invalid %s-regex: %w", from.option, err)
		}
		for name, v := range from.values {
			if re.MatchString(name) {
				out[name] = v
			}
		}
	}
	return out, nil
}

// tagOf is how lines of a container are marked: a template, as Docker's; the short id by default.
func tagOf(text string, of *Container) (string, error) {
	if text == "" {
		text = "{{.ID}}"
	}
	t, err := template.New("tag").Parse(text)
	if err != nil {
		return "", fmt.Errorf("invalid tag: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, tagged{of}); err != nil {
		return "", fmt.Errorf("invalid tag: %w", err)
	}
	return out.String(), nil
}

// tagged is what a template of a tag may name.
type tagged struct{ c *Container }

func short(id string) string {
	_, digest, ok := strings.Cut(id, ":")
	if !ok {
		digest = id
	}
	return digest[:min(len(digest), 12)]
}

func (t tagged) ID() string          { return short(t.c.ID) }
func (t tagged) FullID() string      { return t.c.ID }
func (t tagged) Name() string        { return t.c.Name }
func (t tagged) ImageID() string     { return short(t.c.ImageID) }
func (t tagged) ImageFullID() string { return t.c.ImageID }
func (t tagged) ImageName() string   { return t.c.ImageName }
func (t tagged) DaemonName() string  { return "berth" }
func (t tagged) Command() string     { return strings.Join(t.c.Args, " ") }
func (t tagged) Hostname() string {
	name, _ := os.Hostname()
	return name
}

// journalFields are those of Docker's driver. Names have capital letters, digits and underscores, and begin with none
// of the last (systemd.journal-fields(7)).
func journalFields(of *Container, tag string, extra map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range extra {
		key = strings.Map(func(r rune) rune {
			switch {
			case r >= 'a' && r <= 'z':
				return r - 'a' + 'A'
			case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
				return r
			}
			return '_'
		}, key)
		if key = strings.TrimLeft(key, "_0123456789"); key != "" {
			out[key] = value
		}
	}
	maps.Copy(out, map[string]string{
		"CONTAINER_ID": short(of.ID), "CONTAINER_ID_FULL": of.ID, "CONTAINER_NAME": of.Name, "CONTAINER_TAG": tag, "IMAGE_NAME": of.ImageName,
		"SYSLOG_IDENTIFIER": tag,
	})
	return out
}
