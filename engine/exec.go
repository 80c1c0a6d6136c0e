//go:build linux

package engine

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/engine/change"
	"github.com/berth-containers/berth/engine/confine"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/caps"
	"github.com/berth-containers/berth/monitor"
)

// checkText refuses what would not arrive as it was given: arguments and variables go through JSON, whose strings are
// Unicode.
func checkText(args, env []string) error {
	for _, list := range [][]string{args, env} {
		for _, s := range list {
			if !utf8.ValidString(s) {
				return errs.Text(errs.Invalid, fmt.Sprintf("%q is not UTF-8: it would be altered on its way to the program", s))
			}
			if strings.IndexByte(s, 0) >= 0 {
				return errs.Text(errs.Invalid, fmt.Sprintf("%q holds a null byte", s))
			}
		}
	}
	return nil
}

// Exec runs a further process in a running container. With streams its session is returned; with Detach it is nil.
func (c *Container) Exec(cfg ExecConfig, streams *Streams) (*Session, error) {
	if len(cfg.Cmd) == 0 {
		return nil, errs.Text(errs.Invalid, "No exec command specified")
	}
	status, _, _ := c.now()
	if status != nil && status.Phase == monitor.Paused {
		return nil, errs.Text(errs.Conflict, "Container "+c.ID+" is paused, unpause the container before exec")
	}
	if err := checkText(cfg.Cmd, cfg.Env); err != nil {
		return nil, err
	}
	p, err := c.execProcess(&cfg)
	if err != nil {
		return nil, err
	}
	conn, err := c.dial()
	if err != nil {
		return nil, err
	}
	r := monitor.Request{Op: "exec", Process: p, Detach: cfg.Detach}
	if streams != nil {
		r.Stdin, r.Stdout, r.Stderr = streams.Stdin != nil, streams.Stdout != nil, streams.Stderr != nil
	}
	if size := cfg.ConsoleSize; size != nil {
		r.Size = &Size{Height: uint16(size[0]), Width: uint16(size[1])}
	}
	if _, err := conn.Ask(r); err != nil {
		conn.Close()
		return nil, err
	}
	if cfg.Detach || streams == nil {
		return nil, conn.Close()
	}
	return &Session{c: c, conn: conn, streams: *streams, left: "exec_detach", tty: cfg.Tty}, nil
}

// execProcess says what runs: by the container's rules, with its environment under the new one.
func (c *Container) execProcess(cfg *ExecConfig) (*container.Process, error) {
	name := cfg.User
	if name == "" {
		name = c.Process.User
	}
	var groups []string
	if cfg.User == "" {
		groups = c.HostConfig.GroupAdd
	}
	u, home, err := c.findUser(name, groups)
	if err != nil {
		return nil, err
	}
	cwd := c.Process.Cwd
	if cfg.WorkingDir != "" {
		cwd = path.Join("/", cfg.WorkingDir)
	}
	o, err := confine.Parse(c.HostConfig.SecurityOpt)
	if err != nil {
		return nil, err
	}
	l, err := c.labels(&o)
	if err == nil {
		err = l.Load()
	}
	if err != nil {
		return nil, err
	}
	set := c.capabilities()
	if cfg.Privileged {
		set = caps.All()
	}
	held := set
	if u.UID != 0 && !cfg.Privileged {
		held = nil
	}
	return container.NewProcess(&specs.Process{
		Args: cfg.Cmd, Cwd: cwd, Terminal: cfg.Tty, User: u, NoNewPrivileges: o.ForbidsGain(u.UID, (c.UserAsked || cfg.User != "") && !c.HostConfig.Privileged && !cfg.Privileged), Rlimits: c.rlimits(),
		Env:          c.environment(home, cfg.Tty, change.MergeEnv(c.Process.Env, cfg.Env)),
		Capabilities: &specs.LinuxCapabilities{Bounding: set, Effective: held, Permitted: held}, ApparmorProfile: l.Profile, SelinuxLabel: l.Process,
	})
}
