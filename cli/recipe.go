//go:build linux

package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
)

// recipe is the command that made a container, read by the flags that read it then. It is the one source of the forms
// in which `inspect --as` writes it.
type recipe struct {
	verb  string // run or create
	flags *pflag.FlagSet
	args  []string // image, command
	name  string   // of the container now
}

// option is a flag that was given, with one of its values; "" of one that is true.
type option struct{ name, value string }

// recipeOf reads the command line that a container remembers.
func recipeOf(c *engine.Container) (*recipe, error) {
	at := slices.IndexFunc(c.Argv, func(arg string) bool { return arg == "run" || arg == "create" })
	if at < 0 {
		return nil, errs.New(errs.NotFound, "write command of container "+c.Name, errors.New("it was not made by a command line"))
	}
	r := &recipe{verb: c.Argv[at], name: c.Name, flags: pflag.NewFlagSet("run", pflag.ContinueOnError)}
	f := &runFlags{}
	f.register(r.flags, r.verb == "create")
	r.flags.Bool("help", false, "")
	if err := r.flags.Parse(singleDash(r.flags, c.Argv[at+1:])); err != nil {
		return nil, errs.Wrap("write command of container "+c.Name, err)
	}
	if r.args = r.flags.Args(); len(r.args) == 0 {
		return nil, errs.New(errs.Internal, "write command of container "+c.Name, errors.New("it names no image"))
	}
	return r, nil
}

// options are the flags that were given, but those left out, in the order in which the help shows them.
func (r *recipe) options(without ...string) (out []option) {
	r.flags.Visit(func(f *pflag.Flag) {
		if slices.Contains(without, f.Name) {
			return
		}
		if list, ok := f.Value.(*listFlag); ok {
			for _, v := range *list {
				out = append(out, option{f.Name, v})
			}
			return
		}
		if f.Value.Type() == "bool" && f.Value.String() == "true" {
			out = append(out, option{f.Name, ""})
			return
		}
		out = append(out, option{f.Name, valueText(f)})
	})
	return out
}

// valueText writes a value so that the flag reads it.
func valueText(f *pflag.Flag) string {
	switch v := f.Value.(type) {
	case *bytesFlag:
		return fmt.Sprint(int64(*v))
	case *cpusFlag:
		return strings.TrimSuffix(strings.TrimRight(v.String(), "0"), ".")
	}
	return f.Value.String()
}

// words is the command line after the program's name.
func (r *recipe) words(verb string, options []option) []string {
	out := []string{verb}
	for _, o := range options {
		switch {
		case o.value == "" && r.flags.Lookup(o.name).NoOptDefVal != "":
			out = append(out, "--"+o.name)
		case o.value == "" || r.flags.Lookup(o.name).NoOptDefVal != "" || strings.HasPrefix(o.value, "-"):
			out = append(out, "--"+o.name+"="+o.value)
		default:
			out = append(out, "--"+o.name, o.value)
		}
	}
	return append(out, r.args...)
}

// run is the command, for a shell.
func (r *recipe) run() string {
	options := append([]option{{"name", r.name}}, r.options("name", "cidfile", "explain", "timing")...)
	words := []string{"berth"}
	for _, w := range r.words(r.verb, options) {
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

// systemd is a unit that runs the container attached: systemd has its output, restarts it and stops it.
func (r *recipe) systemd() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", errs.Wrap("find this program", err)
	}
	options := append([]option{{"name", r.name}, {"rm", ""}}, r.options("name", "rm", "detach", "restart", "cidfile", "interactive", "tty", "attach", "explain", "timing")...)
	words := []string{program}
	for _, w := range r.words("run", options) {
		words = append(words, systemdQuote(w))
	}
	restart := map[docker.RestartPolicyMode]string{docker.RestartPolicyAlways: "always", docker.RestartPolicyUnlessStopped: "always", docker.RestartPolicyOnFailure: "on-failure"}
	policy, _, _ := strings.Cut(r.flags.Lookup("restart").Value.String(), ":")
	how := restart[docker.RestartPolicyMode(policy)]
	if how == "" {
		how = "no"
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
`, r.name, program, strings.Join(words, " "), how), nil
}

// systemdQuote writes a word as systemd.service(5), "COMMAND LINES", reads it.
func systemdQuote(s string) string {
	s = strings.NewReplacer(`%`, `%%`, `$`, `$$`).Replace(s)
	if s != "" && !strings.ContainsAny(s, " \t\n\"'\\;") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`).Replace(s) + `"`
}

// writeAs gives an inspect the flag that writes what made containers.
func (a *app) writeAs(cmd *cobra.Command) {
	form, inspect := "", cmd.RunE
	cmd.Flags().StringVar(&form, "as", "", "Write what makes the container: run, compose, systemd")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch form {
		case "":
			return inspect(cmd, args)
		case "run", "compose", "systemd":
			return a.each(args, func(name string) error {
				return a.withContainer(name, func(c *engine.Container) error { return a.writeRecipe(c, form) })
			})
		}
		return invalid("--as: %q is not run, compose or systemd", form)
	}
	_ = cmd.RegisterFlagCompletionFunc("as", cobra.FixedCompletions([]string{"run", "compose", "systemd"}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) writeRecipe(c *engine.Container, form string) error {
	r, err := recipeOf(c)
	if err != nil {
		return err
	}
	text := ""
	switch form {
	case "run":
		text = r.run()
	case "compose":
		text = r.compose()
	case "systemd":
		if text, err = r.systemd(); err != nil {
			return err
		}
	}
	_, err = fmt.Fprint(a.out, text)
	return err
}
