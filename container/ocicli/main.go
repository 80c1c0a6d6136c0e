//go:build linux

package ocicli

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/internal/version"
)

// program is one call.
type program struct {
	root, log, logFormat string
	rootGiven            bool
	debug, systemdCgroup bool
	rootless             string
	out, err             io.Writer
}

// command is one word of the command line.
type command struct {
	name, usage, short string
	run                func(p *program, c *call) error
}

// call is a command with its options.
type call struct {
	*flag.FlagSet
	cmd *command
}

// exitStatus ends the program with a status and says nothing more.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func commands() []command {
	return []command{
		{"create", "create [options] ID", "create a container", (*program).create},
		{"start", "start ID", "run the program of a created container", (*program).start},
		{"run", "run [options] ID", "create and run a container", (*program).runContainer},
		{"exec", "exec [options] ID COMMAND [ARG...]", "run a further program in a container", (*program).exec},
		{"state", "state ID", "print the state of a container", (*program).state},
		{"kill", "kill [options] ID [SIGNAL]", "send a signal to a container (default SIGTERM)", (*program).kill},
		{"delete", "delete [options] ID", "delete what a container holds", (*program).remove},
		{"list", "list [options]", "list containers", (*program).list},
		{"ps", "ps [options] ID [ps options]", "show the processes of a container", (*program).ps},
		{"pause", "pause ID", "freeze all processes of a container", (*program).pause},
		{"resume", "resume ID", "let the processes of a container go on", (*program).resume},
		{"update", "update [options] ID", "change the limits of a container", (*program).update},
		{"events", "events [options] ID", "show statistics and lack of memory of a container", (*program).events},
		{"spec", "spec [options]", "write a specification to begin with", (*program).spec},
		{"features", "features", "print what this runtime can do", (*program).features},
	}
}

// Main runs the command line and returns the exit status.
func Main(args []string) int {
	trace.Begin("runtime")
	p := &program{out: os.Stdout, err: os.Stderr}
	err := p.main(args)
	var status exitStatus
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	p.complain(err)
	return 1
}

func (p *program) main(args []string) error {
	fs := flag.NewFlagSet("berth-runtime", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&p.root, "root", "/run/berth-runtime", "folder of the containers' states (in memory); a user's own is in XDG_RUNTIME_DIR")
	fs.StringVar(&p.log, "log", "", "file for messages (default standard error)")
	fs.StringVar(&p.logFormat, "log-format", "text", "text or json")
	fs.BoolVar(&p.debug, "debug", false, "tell each step")
	fs.BoolVar(&p.systemdCgroup, "systemd-cgroup", false, "let systemd make control groups: cgroupsPath is slice:prefix:name")
	fs.StringVar(&p.rootless, "rootless", "auto", "an ordinary user runs it, whose systemd makes its control groups: true, false, auto")
	showVersion := fs.Bool("version", false, "print the version")
	fs.BoolVar(showVersion, "v", false, "print the version")
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp) || err == nil && fs.NArg() == 0 && !*showVersion || err == nil && fs.NArg() > 0 && fs.Arg(0) == "help":
		p.help(fs)
		return nil
	case err != nil:
		return errs.New(errs.Invalid, "", err)
	case *showVersion:
		fmt.Fprintf(p.out, "berth-runtime version %s\nspec: %s\n", version.String(), specs.Version)
		return nil
	}
	fs.Visit(func(f *flag.Flag) { p.rootGiven = p.rootGiven || f.Name == "root" })
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && !p.rootGiven && p.isRootless() {
		p.root = dir + "/berth-runtime"
	}
	if p.logFormat != "text" && p.logFormat != "json" {
		return errs.Text(errs.Invalid, "unknown log-format "+p.logFormat)
	}
	if p.debug {
		f := os.Stderr
		if p.log != "" {
			if f, err = p.openLog(); err != nil {
				return errs.New(errs.Invalid, "open log", err)
			}
			defer f.Close()
		}
		trace.Observe(f)
	}
	for _, cmd := range commands() {
		if cmd.name == fs.Arg(0) {
			c := &call{flag.NewFlagSet(cmd.name, flag.ContinueOnError), &cmd}
			c.SetOutput(io.Discard)
			c.Usage = func() {}
			return cmd.run(p, withArgs(c, fs.Args()[1:]))
		}
	}
	return errs.Text(errs.Invalid, fmt.Sprintf("No help topic for '%s'", fs.Arg(0))).WithHint("berth-runtime --help")
}

// withArgs keeps the arguments of a command until it has made its options.
func withArgs(c *call, args []string) *call {
	c.FlagSet.Init(strings.Join(append([]string{c.cmd.name}, args...), "\x00"), flag.ContinueOnError)
	return c
}

// parse reads the options, which may be mixed with nothing: the first argument ends them. min to max arguments follow.
func (p *program) parse(c *call, min, max int) error {
	args := strings.Split(c.Name(), "\x00")[1:]
	err := c.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(p.out, "NAME:\n   berth-runtime %s - %s\n\nUSAGE:\n   berth-runtime %s\n\nOPTIONS:\n", c.cmd.name, c.cmd.short, c.cmd.usage)
		c.SetOutput(p.out)
		c.PrintDefaults()
		return err
	}
	if err != nil {
		return errs.New(errs.Invalid, "", err)
	}
	if n := c.NArg(); n < min || max >= 0 && n > max {
		return errs.Text(errs.Invalid, fmt.Sprintf("%q: wrong number of arguments", c.cmd.name)).WithHint("berth-runtime " + c.cmd.usage)
	}
	return nil
}

func (p *program) help(fs *flag.FlagSet) {
	fmt.Fprintln(p.out, "berth-runtime: an OCI runtime\n\nberth-runtime [options] COMMAND [options] [ARG...]\n\nCommands:")
	for _, c := range commands() {
		fmt.Fprintf(p.out, "  %-10s %s\n", c.name, c.short)
	}
	fmt.Fprintln(p.out, "\nOptions:")
	fs.SetOutput(p.out)
	fs.PrintDefaults()
}

// complain says what went wrong: where runc says it, in runc's form, because engines read that.
func (p *program) complain(err error) {
	text := err.Error()
	p.say("error", text)
	fmt.Fprintf(p.err, "berth-runtime: %s\n", text)
	if hint := errs.HintOf(err); hint != "" {
		fmt.Fprintf(p.err, "hint: %s\n", hint)
	}
}

// warn tells what is not done and does no harm: in the log, if there is one.
func (p *program) warn(texts []string) {
	for _, text := range texts {
		if p.log == "" {
			fmt.Fprintf(p.err, "time=%q level=warning msg=%q\n", time.Now().UTC().Format(time.RFC3339), text)
		}
		p.say("warning", text)
	}
}

// say writes to the log.
func (p *program) say(level, text string) {
	if p.log == "" {
		return
	}
	f, err := p.openLog()
	if err != nil {
		return
	}
	defer f.Close()
	now := time.Now().UTC().Format(time.RFC3339)
	if p.logFormat == "json" {
		b, _ := json.Marshal(map[string]string{"level": level, "msg": text, "time": now})
		fmt.Fprintf(f, "%s\n", b)
	} else {
		fmt.Fprintf(f, "time=%q level=%s msg=%q\n", now, level, text)
	}
}

func (p *program) openLog() (*os.File, error) {
	return os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}

// open finds the container that a call names first.
func (p *program) open(c *call) (*container.Container, error) {
	return container.Open(p.root, c.Arg(0))
}

// loadPlan reads a bundle.
func loadPlan(bundle string) (dir string, plan *container.Plan, err error) {
	if dir, err = filepath.Abs(bundle); err != nil {
		return "", nil, errs.Wrap("find bundle", err)
	}
	f, err := os.Open(filepath.Join(dir, "config.json"))
	if err != nil {
		return "", nil, errs.New(errs.Invalid, "read specification", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, largestSpec+1))
	if err != nil {
		return "", nil, errs.New(errs.Invalid, "read specification", err)
	}
	if len(b) > largestSpec {
		return "", nil, errs.New(errs.Invalid, "read specification", fmt.Errorf("it has more than %d bytes", largestSpec))
	}
	var spec specs.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return "", nil, errs.New(errs.Invalid, "read specification", err)
	}
	plan, err = container.NewPlan(&spec, dir)
	return dir, plan, err
}

const largestSpec = 16 << 20
