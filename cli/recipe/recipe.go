//go:build linux

// Package recipe writes what made a container in other forms: as a command for a shell, as a compose file, as a unit of
// systemd's.
package recipe

import (
	"fmt"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"
)

// Recipe is a command that made a container.
type Recipe struct {
	Verb    string // run or create
	Name    string // of the container now
	Options []Option
	Args    []string // image, command
}

// Option is a flag that was given, with one of its values.
type Option struct {
	Name, Value string
	Bare        bool // it stands without a value
	Attached    bool // its value must be behind =
}

// without leaves options out.
func (r *Recipe) without(names ...string) (out []Option) {
	for _, o := range r.Options {
		if !slices.Contains(names, o.Name) {
			out = append(out, o)
		}
	}
	return out
}

// value is the last one of an option; "" when it was not given.
func (r *Recipe) value(name string) (out string) {
	for _, o := range r.Options {
		if o.Name == name {
			out = o.Value
		}
	}
	return out
}

// words is the command line after the program's name.
func (r *Recipe) words(verb string, options []Option) []string {
	out := []string{verb}
	for _, o := range options {
		switch {
		case o.Bare:
			out = append(out, "--"+o.Name)
		case o.Attached || o.Value == "" || strings.HasPrefix(o.Value, "-"):
			out = append(out, "--"+o.Name+"="+o.Value)
		default:
			out = append(out, "--"+o.Name, o.Value)
		}
	}
	return append(out, r.Args...)
}

// Run is the command, for a shell.
func (r *Recipe) Run() string {
	options := append([]Option{{Name: "name", Value: r.Name}}, r.without("name", "cidfile", "explain", "timing")...)
	words := []string{"berth"}
	for _, w := range r.words(r.Verb, options) {
		words = append(words, shellQuote(w))
	}
	return strings.Join(words, " ") + "\n"
}

// shellQuote writes a word so that a POSIX shell reads it as it is.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Systemd is a unit that runs the container attached, by this program: systemd has its output, restarts it and stops it.
func (r *Recipe) Systemd(program string) string {
	options := append([]Option{{Name: "name", Value: r.Name}, {Name: "rm", Bare: true}},
		r.without("name", "rm", "detach", "restart", "cidfile", "interactive", "tty", "attach", "explain", "timing")...)
	words := []string{program}
	for _, w := range r.words("run", options) {
		words = append(words, systemdQuote(w))
	}
	policy, _, _ := strings.Cut(r.value("restart"), ":")
	how := "no"
	switch docker.RestartPolicyMode(policy) {
	case docker.RestartPolicyAlways, docker.RestartPolicyUnlessStopped:
		how = "always"
	case docker.RestartPolicyOnFailure:
		how = "on-failure"
	}
	return fmt.Sprintf(`[Unit]
Description=Container %[1]s of Berth
After=network-online.target
Wants=network-online.target

[Service]
ExecStartPre=-%[2]s rm -f %[1]s
ExecStart=%[3]s
ExecStop=%[2]s stop %[1]s
Restart=%[4]s

[Install]
WantedBy=multi-user.target
`, r.Name, program, strings.Join(words, " "), how)
}

// systemdQuote writes a word as systemd.service(5), "COMMAND LINES", reads it.
func systemdQuote(s string) string {
	s = strings.NewReplacer(`%`, `%%`, `$`, `$$`).Replace(s)
	if s != "" && !strings.ContainsAny(s, " \t\n\"'\\;") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}
