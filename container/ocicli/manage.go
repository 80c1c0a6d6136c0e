//go:build linux

package ocicli

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/errs"
	run "github.com/berth-containers/berth/internal/program"
	"github.com/berth-containers/berth/internal/signals"
)

func (p *program) printJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		_, err = fmt.Fprintf(p.out, "%s\n", b)
	}
	return err
}

func (p *program) state(c *call) error {
	if err := p.parse(c, 1, 1); err != nil {
		return err
	}
	ct, err := p.open(c)
	if err != nil {
		return err
	}
	return p.printJSON(p.describe(ct))
}

// described is a state as runc prints it, in its order: the specification's, and a few keys more.
type described struct {
	Version     string               `json:"ociVersion"`
	ID          string               `json:"id"`
	Pid         int                  `json:"pid"`
	Status      specs.ContainerState `json:"status"`
	Bundle      string               `json:"bundle"`
	Rootfs      string               `json:"rootfs"`
	Created     time.Time            `json:"created"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	Owner       string               `json:"owner"`
}

func (p *program) describe(ct *container.Container) described {
	s := ct.State()
	d := described{s.Version, s.ID, s.Pid, s.Status, s.Bundle, ct.Plan().Root.Path, ct.Created, s.Annotations, "root"}
	if uid := os.Getuid(); uid != 0 {
		d.Owner = strconv.Itoa(uid) // its name would cost more than it says
	}
	return d
}

func (p *program) kill(c *call) error {
	all := c.Bool("all", false, "all processes of the container")
	c.BoolVar(all, "a", false, "all processes of the container")
	if err := p.parse(c, 1, 2); err != nil {
		return err
	}
	sig := unix.SIGTERM
	if c.NArg() == 2 {
		var err error
		if c.Arg(1) == "0" { // asks whether there is somebody to be signalled (kill(2))
			sig = 0
		} else if sig, err = signals.Parse(c.Arg(1)); err != nil {
			return err
		}
	}
	ct, err := p.open(c)
	if err != nil {
		return err
	}
	return ct.Kill(sig, *all)
}

func (p *program) remove(c *call) error {
	force := c.Bool("force", false, "kill it first; one that is not there is no error")
	c.BoolVar(force, "f", false, "kill it first; one that is not there is no error")
	if err := p.parse(c, 1, 1); err != nil {
		return err
	}
	ct, err := p.open(c)
	switch {
	case errs.Is(err, errs.NotFound) && *force:
		return container.Remove(p.root, c.Arg(0)) // a creator that was killed early has left its folder
	case err != nil && *force && !errs.Is(err, errs.Invalid):
		return container.Remove(p.root, c.Arg(0))
	case err != nil:
		return err
	}
	err = ct.Delete(*force)
	p.warn(ct.Warnings)
	return err
}

func (p *program) list(c *call) error {
	format := c.String("format", "table", "table or json")
	c.StringVar(format, "f", "table", "table or json")
	quiet := c.Bool("quiet", false, "only ids")
	c.BoolVar(quiet, "q", false, "only ids")
	if err := p.parse(c, 0, 0); err != nil {
		return err
	}
	if _, err := os.Stat(p.root); err != nil && p.rootGiven {
		return errs.New(errs.Invalid, "list containers", err)
	}
	all, err := container.List(p.root)
	if err != nil {
		return err
	}
	var list []described
	for _, ct := range all {
		list = append(list, p.describe(ct))
	}
	switch {
	case *quiet:
		for _, d := range list {
			fmt.Fprintln(p.out, d.ID)
		}
		return nil
	case *format == "json":
		b, err := json.Marshal(list)
		if err == nil {
			fmt.Fprintf(p.out, "%s\n", b)
		}
		return err
	case *format != "table":
		return errs.Text(errs.Invalid, "invalid format option")
	}
	id, bundle := len("ID"), len("BUNDLE")
	for _, d := range list {
		id, bundle = max(id, len(d.ID)), max(bundle, len(d.Bundle))
	}
	fmt.Fprintf(p.out, "%-*s   %-9s   %-9s   %-*s   %-30s   %s\n", id, "ID", "PID", "STATUS", bundle, "BUNDLE", "CREATED", "OWNER")
	for _, d := range list {
		fmt.Fprintf(p.out, "%-*s   %-9d   %-9s   %-*s   %-30s   %s\n", id, d.ID, d.Pid, d.Status, bundle, d.Bundle, d.Created.Format(time.RFC3339Nano), d.Owner)
	}
	return nil
}

// ps shows processes by ps(1) of the host, or their pids.
func (p *program) ps(c *call) error {
	format := c.String("format", "table", "table or json")
	c.StringVar(format, "f", "table", "table or json")
	if err := p.parse(c, 1, -1); err != nil {
		return err
	}
	ct, err := p.open(c)
	if err != nil {
		return err
	}
	pids, err := ct.Group().Pids()
	if err != nil {
		return err
	}
	if *format == "json" {
		b, err := json.Marshal(pids)
		if err == nil {
			fmt.Fprintf(p.out, "%s\n", b)
		}
		return err
	}
	args := c.Args()[1:]
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	ps := run.Program{Path: "ps", Args: append([]string{"ps"}, args...), Env: os.Environ()}
	out, err := ps.Run()
	if err != nil {
		return errs.New(errs.Internal, "ps", fmt.Errorf("%w: %s", err, out))
	}
	lines := strings.Split(string(out), "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return errs.Text(errs.Invalid, "couldn't find PID field in ps output")
	}
	fmt.Fprintln(p.out, lines[0])
	for _, line := range lines[1:] {
		if fields := strings.Fields(line); len(fields) > column {
			if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
				fmt.Fprintln(p.out, line)
			}
		}
	}
	return nil
}

func (p *program) pause(c *call) error {
	return p.change(c, (*container.Container).Pause)
}

func (p *program) resume(c *call) error {
	return p.change(c, (*container.Container).Resume)
}

func (p *program) change(c *call, do func(*container.Container) error) error {
	if err := p.parse(c, 1, 1); err != nil {
		return err
	}
	ct, err := p.open(c)
	if err != nil {
		return err
	}
	return do(ct)
}
