//go:build linux

// Package change reads the Dockerfile instructions that import and commit apply to an image.
package change

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/berth-containers/berth/engine/ports"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/signals"
)

// Parse reads the Dockerfile instructions of import and commit: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL,
// USER, VOLUME, WORKDIR.
func Parse(lines []string) (func(*dockerspec.DockerOCIImage) error, error) {
	var changes []func(*dockerspec.DockerOCIImageConfig)
	for _, line := range lines {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		change, err := parseChange(strings.ToUpper(word), strings.TrimSpace(rest))
		if err != nil {
			return nil, errs.New(errs.Invalid, "apply change "+line, err)
		}
		changes = append(changes, change)
	}
	return func(img *dockerspec.DockerOCIImage) error {
		for _, change := range changes {
			change(&img.Config)
		}
		return nil
	}, nil
}

type configChange = func(*dockerspec.DockerOCIImageConfig)

func parseChange(word, rest string) (configChange, error) {
	if rest == "" {
		return nil, fmt.Errorf("%s needs an argument", word)
	}
	switch word {
	case "CMD":
		args := execForm(rest)
		return func(c *dockerspec.DockerOCIImageConfig) { c.Cmd = args }, nil
	case "ENTRYPOINT":
		args := execForm(rest)
		return func(c *dockerspec.DockerOCIImageConfig) { c.Entrypoint = args }, nil
	case "ENV":
		set, err := pairsOf(rest)
		return func(c *dockerspec.DockerOCIImageConfig) {
			for _, p := range set {
				c.Env = MergeEnv(c.Env, []string{p[0] + "=" + p[1]})
			}
		}, err
	case "LABEL":
		set, err := pairsOf(rest)
		return func(c *dockerspec.DockerOCIImageConfig) {
			if c.Labels == nil {
				c.Labels = map[string]string{}
			}
			for _, p := range set {
				c.Labels[p[0]] = p[1]
			}
		}, err
	case "EXPOSE":
		exposed, _, _, err := ports.Parse(nil, strings.Fields(rest))
		return func(c *dockerspec.DockerOCIImageConfig) {
			if c.ExposedPorts == nil {
				c.ExposedPorts = map[string]struct{}{}
			}
			for port := range exposed {
				c.ExposedPorts[port.String()] = struct{}{}
			}
		}, err
	case "VOLUME":
		paths := strings.Fields(rest)
		if strings.HasPrefix(rest, "[") {
			paths = execForm(rest)
		}
		return func(c *dockerspec.DockerOCIImageConfig) {
			if c.Volumes == nil {
				c.Volumes = map[string]struct{}{}
			}
			for _, p := range paths {
				c.Volumes[p] = struct{}{}
			}
		}, nil
	case "USER":
		return func(c *dockerspec.DockerOCIImageConfig) { c.User = rest }, nil
	case "WORKDIR":
		return func(c *dockerspec.DockerOCIImageConfig) {
			if path.IsAbs(rest) {
				c.WorkingDir = path.Clean(rest)
			} else {
				c.WorkingDir = path.Join("/", c.WorkingDir, rest)
			}
		}, nil
	case "STOPSIGNAL":
		_, err := signals.Parse(rest)
		return func(c *dockerspec.DockerOCIImageConfig) { c.StopSignal = rest }, err
	}
	return nil, fmt.Errorf("%s is not a valid change command", word)
}

// execForm reads ["a", "b"], or a line for the shell.
func execForm(s string) []string {
	var args []string
	if strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &args) == nil {
		return args
	}
	return []string{"/bin/sh", "-c", s}
}

// pairsOf reads key=value pairs, of which values may be quoted, or the old form "key value".
func pairsOf(s string) ([][2]string, error) {
	if first, rest, ok := strings.Cut(s, " "); ok && !strings.Contains(first, "=") {
		return [][2]string{{first, strings.TrimSpace(rest)}}, nil
	}
	var out [][2]string
	for _, word := range splitQuoted(s) {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not KEY=VALUE", word)
		}
		out = append(out, [2]string{key, value})
	}
	return out, nil
}

// splitQuoted splits at spaces that are not within quotes, and takes the quotes away.
func splitQuoted(s string) []string {
	var out []string
	var word strings.Builder
	quote, some := rune(0), false
	for _, c := range s {
		switch {
		case quote == 0 && (c == '"' || c == '\''):
			quote, some = c, true
		case c == quote && quote != 0:
			quote = 0
		case c == ' ' && quote == 0:
			if some {
				out = append(out, word.String())
			}
			word.Reset()
			some = false
		default:
			word.WriteRune(c)
			some = true
		}
	}
	if some {
		out = append(out, word.String())
	}
	return out
}

// MergeEnv puts variables over others; a name without a value removes one.
func MergeEnv(base, over []string) []string {
	out := slices.Clone(base)
	for _, e := range over {
		name, _, hasValue := strings.Cut(e, "=")
		i := slices.IndexFunc(out, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		switch {
		case i >= 0 && hasValue:
			out[i] = e
		case i >= 0:
			out = slices.Delete(out, i, i+1)
		case hasValue:
			out = append(out, e)
		}
	}
	return out
}
