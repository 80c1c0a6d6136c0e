//go:build linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/cli/layers"
	"github.com/berth-containers/berth/cli/registries"
	"github.com/berth-containers/berth/cli/space"
	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/internal/version"
)

// app is one call of the program.
type app struct {
	options  engine.Options
	host     string
	in       *os.File
	out, err io.Writer
}

// exitCode ends the program with a status and says nothing more.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// entry is a command: its name, whose words may be several ("image ls"), and how it is built.
type entry struct {
	name  string
	build func(*app) *cobra.Command
}

// commands are all commands. The long form of each is `GROUP COMMAND`; those people type most have a short form, too.
func commands() []entry {
	return []entry{
		{"run", newRun}, {"create", newCreate}, {"start", newStart}, {"stop", newStop}, {"restart", newRestart}, {"kill", newKill},
		{"rm", newRemove}, {"ps", newList}, {"inspect", newInspect}, {"logs", newLogs}, {"exec", newExec}, {"attach", newAttach}, {"wait", newWait},
		{"pause", newPause}, {"unpause", newUnpause}, {"rename", newRename}, {"port", newPort},
		{"images", newImages}, {"import", newImport}, {"explain", newExplain}, {"why", newWhy}, {"container why", newWhy}, {"snap", newSnap}, {"snap ls", newSnapList}, {"snap rm", newSnapRemove}, {"branch", newBranch}, {"undo", newUndo},
		{"boot", newBoot}, {"boot install", newBootInstall}, {"boot uninstall", newBootUninstall}, {"boot status", newBootStatus}, {"boot stop", newBootStop},
		{"anatomy", newAnatomy}, {"container anatomy", newAnatomy}, {"tag", newTag}, {"rmi", newRemoveImage}, {"history", newHistory},
		{"outdated", newOutdated}, {"pull", newPull}, {"push", newPush}, {"login", askRegistry(registries.Login)}, {"logout", askRegistry(registries.Logout)}, {"image pull", newPull}, {"image push", newPush},
		{"search", askRegistry(registries.Search)}, {"manifest create", askRegistry(registries.Create)}, {"manifest annotate", askRegistry(registries.Annotate)},
		{"manifest inspect", askRegistry(registries.Inspect)}, {"manifest push", askRegistry(registries.Push)}, {"manifest rm", askRegistry(registries.Remove)},
		{"save", newSave}, {"load", newLoad}, {"export", newExport}, {"commit", newCommit}, {"diff", newDiff}, {"cp", newCopy},
		{"events", newEvents}, {"stats", newStats}, {"top", newTop}, {"update", newUpdate}, {"set", newSet}, {"container set", newSet},
		{"container export", newExport}, {"container commit", newCommit}, {"container diff", newDiff}, {"container cp", newCopy}, {"container stats", newStats},
		{"container top", newTop}, {"container update", newUpdate},
		{"image tag", newTag}, {"image rm", newRemoveImage}, {"image history", newHistory}, {"image save", newSave}, {"image load", newLoad}, {"image prune", newImagePrune},
		{"image tree", lookInto(layers.Tree)}, {"image diff", lookInto(layers.Diff)}, {"image mount", lookInto(layers.Mount)}, {"image unmount", lookInto(layers.Unmount)},
		{"system df", aboutSpace(space.DiskUsage)}, {"system budget", aboutSpace(space.Budget)},
		{"trash ls", aboutSpace(space.TrashList)}, {"trash keep", aboutSpace(space.TrashKeep)}, {"trash empty", aboutSpace(space.TrashEmpty)}, {"system events", newEvents}, {"system prune", newSystemPrune},
		{"container run", newRun}, {"container create", newCreate}, {"container start", newStart}, {"container stop", newStop},
		{"container restart", newRestart}, {"container kill", newKill}, {"container rm", newRemove}, {"container ls", newList},
		{"container inspect", newContainerInspect}, {"container logs", newLogs}, {"container exec", newExec}, {"container attach", newAttach}, {"container wait", newWait},
		{"container pause", newPause}, {"container unpause", newUnpause}, {"container rename", newRename}, {"container port", newPort},
		{"container prune", newContainerPrune},
		{"image ls", newImages}, {"image import", newImport}, {"image inspect", newImageInspect},
		{"ports", newPorts}, {"egress", newEgress}, {"network create", newNetworkCreate}, {"network ls", newNetworkList}, {"network inspect", newNetworkInspect}, {"network rm", newNetworkRemove},
		{"network prune", newNetworkPrune}, {"network repair", newNetworkRepair}, {"network connect", newNetworkConnect}, {"network disconnect", newNetworkDisconnect},
		{"volume create", newVolumeCreate}, {"volume ls", newVolumeList}, {"volume inspect", newVolumeInspect}, {"volume rm", newVolumeRemove},
		{"volume prune", newVolumePrune}, {"volume export", newVolumeExport}, {"volume import", newVolumeImport}, {"volume cp", newVolumeCopy},
		{"volume rename", newVolumeRename}, {"volume clone", newVolumeClone}, {"volume snapshot", newVolumeSnapshot}, {"volume du", newVolumeUsage},
		{"volume files", newVolumeFiles},
		{"info", newInfo}, {"version", newVersion}, {"doctor", newDoctor}, {"completion", newCompletion}, {"system info", newInfo},
	}
}

// lookInto builds a command that looks into images.
func lookInto(build func(*layers.Call) *cobra.Command) func(*app) *cobra.Command {
	return func(a *app) *cobra.Command {
		return build(&layers.Call{Open: a.open, Out: a.out, Width: a.width, Args: rangeArgs, Each: a.each})
	}
}

// askRegistry builds a command that speaks to registries.
func askRegistry(build func(*registries.Call) *cobra.Command) func(*app) *cobra.Command {
	return func(a *app) *cobra.Command {
		return build(&registries.Call{Open: a.open, In: a.in, Out: a.out, Err: a.err, Args: rangeArgs, Each: a.each, Where: parseFilters, Table: a.printRows})
	}
}

// aboutSpace builds a command about the disk.
func aboutSpace(build func(*space.Call) *cobra.Command) func(*app) *cobra.Command {
	return func(a *app) *cobra.Command {
		return build(a.space())
	}
}

func (a *app) space() *space.Call {
	return &space.Call{Open: a.open, Out: a.out, Args: rangeArgs, Table: a.printRows, One: func(format string, v any) error { return printOne(a.out, format, v, nil) }}
}

// printRows prints a list, given the heads and fields of its columns.
func (a *app) printRows(columns [][2]string, format string, rows []any) error {
	t := &table{}
	for _, c := range columns {
		t.columns = append(t.columns, column{c[0], c[1]})
	}
	return t.print(a.out, format, rows)
}

// aliases are other names of commands.
func aliases() map[string]string {
	return map[string]string{
		"container list": "container ls", "container ps": "container ls", "container remove": "container rm", "image list": "image ls", "image remove": "image rm", "image umount": "image unmount",
		"network list": "network ls", "network remove": "network rm", "volume list": "volume ls", "volume remove": "volume rm", "snap list": "snap ls", "trash list": "trash ls", "snap remove": "snap rm",
	}
}

// groups say what the commands of a group are about.
var groups = map[string]string{
	"container": "Manage containers", "image": "Manage images", "manifest": "Manage Docker image manifests and manifest lists", "network": "Manage networks", "volume": "Manage volumes", "system": "Manage Berth", "trash": "Manage what was removed",
}

// Main runs the command line and returns the exit status.
func Main(args []string) int {
	trace.Begin("berth")
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	if host, rest := remoteHost(args); host != "" {
		return runRemote(host, rest)
	}
	root := a.rootCommand()
	args = joinWords(args)
	build, words, at := a.find(args)
	if build == nil || wantsAll(args) {
		a.addAll(root)
	} else {
		addUnder(root, words, build(a))
	}
	root.SetArgs(spelled(root, words, args, at))
	return a.exit(root.ExecuteContext(context.Background()))
}

// spelled replaces the spellings with one dash of run and create, whose options begin at an index.
func spelled(root *cobra.Command, words, args []string, at int) []string {
	if len(words) == 0 || words[len(words)-1] != "run" && words[len(words)-1] != "create" || len(words) == 2 && words[0] != "container" {
		return args
	}
	cmd, _, err := root.Find(words)
	if err != nil {
		return args
	}
	return append(append([]string{}, args[:at]...), singleDash(cmd.Flags(), args[at:])...)
}

// wantsAll reports whether a call needs the names of all commands.
func wantsAll(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "help", "completion", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd:
			return true
		}
		if !strings.HasPrefix(arg, "-") {
			return false
		}
	}
	return false
}

// find finds the command that a call names, its words, and where what follows them begins.
func (a *app) find(args []string) (build func(*app) *cobra.Command, name []string, at int) {
	words, ends := []string{}, []int{}
	for i := 0; i < len(args) && len(words) < 2; i++ {
		arg := args[i]
		if strings.HasPrefix(arg, "-") {
			if len(words) > 0 {
				break
			}
			if globalTakesValue(arg) {
				i++
			}
			continue
		}
		words, ends = append(words, arg), append(ends, i+1)
	}
	for n := len(words); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		if alias, ok := aliases()[name]; ok {
			name = alias
		}
		for _, e := range commands() {
			if e.name == name {
				return e.build, strings.Fields(name), ends[n-1]
			}
		}
	}
	return nil, nil, 0
}

func globalTakesValue(arg string) bool {
	switch arg {
	case "--root", "--state", "-H", "--host":
		return true
	}
	return false
}

// joinWords replaces an alias of a command of a group by its name.
func joinWords(args []string) []string {
	for i := 0; i+1 < len(args); i++ {
		if name, ok := aliases()[args[i]+" "+args[i+1]]; ok {
			out := append([]string{}, args...)
			out[i+1] = strings.Fields(name)[1]
			return out
		}
		if !strings.HasPrefix(args[i], "-") {
			break
		}
	}
	return args
}

// addUnder puts a command below its group.
func addUnder(root *cobra.Command, words []string, cmd *cobra.Command) {
	parent := root
	if len(words) > 1 {
		parent = nil
		for _, have := range root.Commands() {
			if have.Name() == words[0] {
				parent = have
			}
		}
		if parent == nil {
			parent = newGroup(words[0])
			root.AddCommand(parent)
		}
	}
	_, rest, _ := strings.Cut(cmd.Use, " ")
	cmd.Use = strings.TrimSpace(words[len(words)-1] + " " + rest)
	cmd.DisableFlagsInUseLine = true
	parent.AddCommand(cmd)
}

func (a *app) addAll(root *cobra.Command) {
	for _, e := range commands() {
		cmd := e.build(a)
		addUnder(root, strings.Fields(e.name), cmd)
		a.completeNames(cmd)
	}
}

func newGroup(name string) *cobra.Command {
	return &cobra.Command{
		Use: name + " COMMAND", Short: groups[name], Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errs.Text(errs.Invalid, fmt.Sprintf("unknown command: berth %s %s", name, args[0])).WithHint("berth " + name + " --help")
			}
			return cmd.Help()
		},
	}
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "berth [OPTIONS] COMMAND [ARG...]", Short: "Containers without a daemon, every kernel step explained",
		SilenceErrors: true, SilenceUsage: true, TraverseChildren: true, DisableFlagsInUseLine: true, Args: cobra.ArbitraryArgs,
		Version: version.String(), CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errs.Text(errs.Invalid, "unknown command: berth "+args[0]).WithHint("berth --help")
			}
			return cmd.Help()
		},
	}
	root.SetVersionTemplate("Berth version {{.Version}}\n")
	root.SetOut(a.out)
	root.SetErr(a.err)
	f := root.Flags()
	f.SetInterspersed(false)
	f.BoolP("version", "v", false, "Print version information and quit")
	f.StringVar(&a.options.Root, "root", "", "Folder of what survives a reboot (default $BERTH_ROOT or "+engine.DefaultRoot+")")
	f.StringVar(&a.options.State, "state", "", "Folder of what describes running processes (default $BERTH_STATE or "+engine.DefaultState+")")
	f.StringVarP(&a.host, "host", "H", "", "Berth on another host: ssh://[USER@]HOST[:PORT] (default $BERTH_HOST)")
	root.PersistentFlags().Bool("help", false, "Print usage")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return errs.New(errs.Invalid, "", err).WithHint(cmd.CommandPath() + " --help")
	})
	return root
}

// open opens the engine that the call means.
func (a *app) open() (*engine.Engine, error) { return engine.Open(a.options) }

// exit says what went wrong, with the exit status that tells it: of `run` and `create` 125 to 127, of all others 1, as
// Docker's.
func (a *app) exit(err error) int {
	var code exitCode
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	var started startError
	if errors.As(err, &started) {
		a.complain(started.error)
		return errs.ExitCode(started.error)
	}
	a.complain(err)
	return 1
}

// startError is an error of a command that starts containers.
type startError struct{ error }

func (e startError) Unwrap() error { return e.error }

func (a *app) complain(err error) {
	fmt.Fprintf(a.err, "berth: %v\n", err)
	if hint := errs.HintOf(err); hint != "" {
		fmt.Fprintf(a.err, "hint: %s\n", hint)
	}
}

// each does something for each argument, says what went wrong with some, and goes on with the others.
func (a *app) each(names []string, do func(name string) error) error {
	failed := false
	for _, name := range names {
		if err := do(name); err != nil {
			a.complain(err)
			failed = true
		}
	}
	if failed {
		return exitCode(1)
	}
	return nil
}

// minArgs and exactArgs check the number of arguments in Docker's words.
func minArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return argsError(cmd, "at least", n)
	}
}

func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return argsError(cmd, "exactly", n)
	}
}

func rangeArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return argsError(cmd, "at least", least)
		case len(args) > most:
			return argsError(cmd, "at most", most)
		}
		return nil
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return errs.Text(errs.Invalid, fmt.Sprintf("%q accepts no arguments", cmd.CommandPath())).WithHint(cmd.CommandPath() + " --help")
}

func argsError(cmd *cobra.Command, how string, n int) error {
	plural := "s"
	if n == 1 {
		plural = ""
	}
	return errs.Text(errs.Invalid, fmt.Sprintf("%q requires %s %d argument%s", cmd.CommandPath(), how, n, plural)).
		WithHint("usage: " + cmd.UseLine())
}
