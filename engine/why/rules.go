//go:build linux

package why

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// finding is what a rule says; nil is "this rule does not fit".
type finding struct {
	verdict, certainty string
	fix                []string
}

// rules in the order in which they are asked. What was recorded comes before what is concluded.
var rules = []func(*evidence) *finding{
	stillRuns, neverStarted, commandFailed, lackOfMemory, unhealthy, stopped, kernelKill, killedByOthers, crashed, byItself, programFailed,
}

func (v *evidence) judge() *finding {
	for _, rule := range rules {
		if f := rule(v); f != nil {
			return f
		}
	}
	return &finding{verdict: fmt.Sprintf("It ended with exit code %d, and nothing tells why.", v.exit.Code), certainty: Guess}
}

func stillRuns(v *evidence) *finding {
	state := v.in.State.Status
	if running(state) {
		f := &finding{verdict: "It has not ended: it is " + string(state) + ".", certainty: Certain}
		if v.exit != nil {
			f.verdict = fmt.Sprintf("It is %s again; the run before ended with exit code %d.", state, v.exit.Code)
		}
		return f
	}
	return nil
}

func neverStarted(v *evidence) *finding {
	if v.exit != nil && !v.exit.StartedAt.IsZero() {
		return nil
	}
	if v.exit == nil && v.in.State.Status == docker.StateCreated {
		return &finding{verdict: "It was created and never started.", certainty: Certain, fix: []string{"berth start " + v.c.Name}}
	}
	if v.exit != nil && (v.exit.Code == 125 || v.exit.Code == 126 || v.exit.Code == 127) {
		return &finding{verdict: "It could not be started: " + v.exit.Error + ".", certainty: Certain}
	}
	return nil
}

// commandFailed is a shell that did not find, or could not execute, what it was to run.
func commandFailed(v *evidence) *finding {
	switch {
	case v.exit.Code == 127:
		return &finding{verdict: "The command was not found in the container" + v.saying("not found") + ".", certainty: Likely,
			fix: []string{"look for it: berth run --rm --entrypoint sh " + v.in.Config.Image + " -c 'command -v NAME; echo $PATH'"}}
	case v.exit.Code == 126:
		return &finding{verdict: "The command could not be executed" + v.saying("denied", "exec format") + ".", certainty: Likely,
			fix: []string{"make it executable (chmod +x), or build it for this platform"}}
	}
	return nil
}

func lackOfMemory(v *evidence) *finding {
	if !v.exit.OOMKilled {
		return nil
	}
	limit, more := "its limit", "berth update --memory 1g --memory-swap 1g "+v.c.Name
	if m := v.exit.Marks; m != nil && m.MemoryLimit > 0 {
		limit = "its limit of " + size(m.MemoryLimit)
		doubled := size(2 * m.MemoryLimit)
		more = fmt.Sprintf("berth update --memory %s --memory-swap %s %s", doubled, doubled, v.c.Name)
	}
	fix := []string{more, "or let the program use less: caches, workers, the heap of its language"}
	if v.exit.Signal == int(unix.SIGKILL) {
		return &finding{verdict: "The kernel killed its program because the container's memory met " + limit + ".", certainty: Certain, fix: fix}
	}
	return &finding{certainty: Likely, fix: fix,
		verdict: fmt.Sprintf("The kernel killed a process of it because its memory met %s; its program then ended with exit code %d.", limit, v.exit.Code)}
}

func unhealthy(v *evidence) *finding {
	if v.exit.By != "health" {
		return nil
	}
	check := ""
	if h := v.in.State.Health; h != nil && len(h.Log) > 0 {
		check = ": " + firstLine(h.Log[len(h.Log)-1].Output)
	}
	return &finding{verdict: "Its health checks failed, and --health-on-failure ended it" + check + ".", certainty: Certain,
		fix: []string{"run the check by hand: berth start " + v.c.Name + " && berth exec " + v.c.Name + " " + strings.Join(checkCommand(v), " ")}}
}

func checkCommand(v *evidence) []string {
	if h := v.in.Config.Healthcheck; h != nil && len(h.Test) > 1 {
		if h.Test[0] == "CMD-SHELL" {
			return []string{"sh", "-c", "'" + h.Test[1] + "'"}
		}
		return h.Test[1:]
	}
	return []string{"CHECK"}
}

// stopped is an end that somebody asked Berth for.
func stopped(v *evidence) *finding {
	who := map[string]string{"stop": "`berth stop`", "kill": "`berth kill`", "timeout": "its --timeout", "shutdown": "the host's shutdown (`berth boot stop`)"}[v.exit.By]
	if who == "" {
		return nil
	}
	sent := v.signals()
	if v.exit.Signal == int(unix.SIGKILL) && v.exit.By != "kill" && len(sent) > 1 {
		f := &finding{certainty: Certain, verdict: fmt.Sprintf("It was ended by %s, with SIGKILL, because it did not end on %s in time.", who, named(sent[0]))}
		switch {
		case v.shellForm() && !v.hasInit():
			f.fix = []string{"let the shell become the program: sh -c 'exec COMMAND', or give the command without a shell", "or run it with --init"}
		case !v.hasInit():
			f.fix = []string{"handle " + named(sent[0]) + " in the program: as process 1 it does not get the default action", "or run it with --init",
				"or give it more time: berth stop --timeout 30 " + v.c.Name, "or another signal: --stop-signal"}
		default:
			f.fix = []string{"give it more time: berth stop --timeout 30 " + v.c.Name}
		}
		return f
	}
	f := &finding{certainty: Certain, verdict: "It was ended by " + who + "."}
	switch {
	case v.exit.Unknown:
		f.verdict = fmt.Sprintf("It was asked to end by %s; how it ended is not known, because its monitor was killed.", who)
	case v.exit.Signal == 0:
		f.verdict = fmt.Sprintf("It was asked to end by %s, and ended with exit code %d.", who, v.exit.Code)
	}
	return f
}

func kernelKill(v *evidence) *finding {
	if v.kernel == "" {
		return nil
	}
	return &finding{certainty: Certain, verdict: "The kernel killed it because the host as a whole had no memory left.",
		fix: []string{"give the containers of this host limits (berth update --memory), so that one cannot take it all", "berth stats --no-stream"}}
}

// killedByOthers is SIGKILL, and Berth has not sent it.
func killedByOthers(v *evidence) *finding {
	switch {
	case v.exit.Unseen:
		return &finding{certainty: Certain, verdict: "It ran when the host went down, and nobody saw its end.", fix: []string{"berth boot install, and --restart unless-stopped: then it is started with the host"}}
	case v.exit.Unknown:
		return &finding{certainty: Certain, verdict: "It ended while it had no monitor, or a second one, because that was killed; how is not known."}
	case v.exit.Signal == int(unix.SIGKILL):
		return &finding{certainty: Likely, verdict: "Somebody on the host killed it (SIGKILL); neither Berth nor the kernel's lack of memory did.",
			fix: []string{"look for who: journalctl --since '" + v.exit.FinishedAt.Local().Format("15:04") + "'; an earlyoom or systemd-oomd, a script, a person"}}
	case v.exit.Signal == int(unix.SIGTERM) || v.exit.Signal == int(unix.SIGINT) || v.exit.Signal == int(unix.SIGHUP):
		return &finding{certainty: Likely, verdict: "Somebody sent it " + signalName(v.exit.Signal) + " past Berth: from the host, or one of its own processes."}
	}
	return nil
}

// crashed is a signal that the kernel sends a program for what it did.
func crashed(v *evidence) *finding {
	signal := v.exit.Signal
	if signal == 0 && v.exit.Code > 128 && v.exit.Code < 128+65 {
		signal = v.exit.Code - 128 // of a child of the shell, or of --init
	}
	causes := map[int]finding{
		int(unix.SIGSEGV): {verdict: "used memory that is not its own: a bug of the program, or a library of another version"},
		int(unix.SIGABRT): {verdict: "gave up by itself (abort): its output says why"},
		int(unix.SIGBUS): {verdict: "met the end of a file that it had mapped; often /dev/shm is full", fix: []string{
			fmt.Sprintf("give it more: --shm-size (now %s)", size(uint64(v.in.HostConfig.ShmSize)))}},
		int(unix.SIGILL): {verdict: "has an instruction that this CPU does not know", fix: []string{"build it for a baseline CPU (x86-64-v2), or use another image"}},
		int(unix.SIGFPE): {verdict: "divided by zero"},
		int(unix.SIGSYS): {verdict: "made a system call that the seccomp profile forbids", fix: []string{
			"see which: strace -f, or dmesg | grep audit", "allow it with a profile: --security-opt seccomp=FILE"}},
		int(unix.SIGPIPE): {verdict: "wrote to a pipe that nobody reads any more"},
		int(unix.SIGXFSZ): {verdict: "wrote a file larger than its limit", fix: []string{"--ulimit fsize=-1"}},
		int(unix.SIGXCPU): {verdict: "used more CPU time than its limit", fix: []string{"--ulimit cpu=-1"}},
	}
	f, ok := causes[signal]
	if !ok {
		if v.exit.Signal == 0 {
			return nil
		}
		f = finding{verdict: "was ended by a signal"}
	}
	f.verdict = fmt.Sprintf("Its program %s (%s).", f.verdict, signalName(signal))
	f.certainty = Certain
	if v.exit.Signal == 0 {
		f.certainty = Likely
	}
	return &f
}

func byItself(v *evidence) *finding {
	if v.exit.Code != 0 {
		return nil
	}
	f := &finding{verdict: "Its program ended by itself, without an error.", certainty: Certain}
	if isShell(v.program) && len(v.in.Args) == 0 && !v.in.Config.Tty {
		f.verdict = "Its program is a shell that had no input, so it ended at once."
		f.certainty = Likely
		f.fix = []string{"give it a terminal: berth run -it " + v.in.Config.Image, "or a command that goes on"}
	}
	if p := v.in.HostConfig.RestartPolicy.Name; p == docker.RestartPolicyAlways || p == docker.RestartPolicyUnlessStopped {
		f.fix = append(f.fix, "a program that forks into the background ends its container: run it in the foreground")
	}
	return f
}

// complaint is what a program says, and what it means.
type complaint struct {
	text *regexp.Regexp
	verdict,
	fix string
}

func complaints() []complaint {
	c := func(text, verdict, fix string) complaint {
		return complaint{regexp.MustCompile("(?i)" + text), verdict, fix}
	}
	return []complaint{
		c(`resource temporarily unavailable|cannot fork|can't fork|fork: retry|unable to create (native )?thread`, "it could not make another process or thread", "berth update --pids-limit 8192 NAME"),
		c(`read-only file system`, "it wrote where nothing may be written", "a volume or --tmpfs for that folder"),
		c(`no space left on device`, "there was no room left to write", "berth system df; df -h"),
		c(`address already in use`, "its port is taken, in its own network namespace", "look for who: berth exec NAME netstat -ltn; with --network host: ss -ltnp"),
		c(`permission denied|operation not permitted|EACCES|EPERM`, "it was not allowed to do something", "look at whose the file is and as whom it runs: ls -ln, --user; capabilities: --cap-add"),
		c(`connection refused|no route to host|network is unreachable`, "it could not reach another service", "are both in one network? berth network inspect"),
		c(`could not resolve|name or service not known|temporary failure in name resolution|no such host`, "a name could not be resolved", "names of containers are known in networks of your own: berth network create"),
		c(`no such file or directory|cannot find|cannot open`, "a file is missing", "berth diff NAME; berth run --rm --entrypoint sh IMAGE -c 'ls -l FILE'"),
		c(`out of memory|cannot allocate memory|OutOfMemoryError|MemoryError|heap out of memory`, "it had not enough memory", "berth update --memory 1g NAME, or a larger heap in its own settings"),
		c(`exec format error`, "a program is for another CPU", "an image of this platform: --platform"),
	}
}

// programFailed is an exit code of the program's own. What it said last is looked at.
func programFailed(v *evidence) *finding {
	f := &finding{verdict: fmt.Sprintf("Its program ended by itself with exit code %d.", v.exit.Code), certainty: Certain}
	if m := v.exit.Marks; m != nil && m.PidsHits > 0 {
		f.verdict = fmt.Sprintf("Its program ended by itself with exit code %d, after %d forks were refused at the limit of %d processes.", v.exit.Code, m.PidsHits, m.PidsLimit)
		f.certainty = Likely
		f.fix = []string{fmt.Sprintf("berth update --pids-limit %d %s", 2*m.PidsLimit, v.c.Name)}
		return f
	}
	for _, line := range slices.Backward(v.log) {
		for _, c := range complaints() {
			if c.text.MatchString(line) {
				f.verdict = fmt.Sprintf("Its program ended by itself with exit code %d: as it seems %s (%q).", v.exit.Code, c.verdict, strings.TrimSpace(line))
				f.certainty = Guess
				f.fix = []string{strings.NewReplacer("NAME", v.c.Name, "IMAGE", v.in.Config.Image).Replace(c.fix)}
				return f
			}
		}
	}
	f.fix = []string{"berth logs " + v.c.Name}
	return f
}

// saying quotes the last line of output that has one of the words.
func (v *evidence) saying(words ...string) string {
	for _, line := range slices.Backward(v.log) {
		for _, w := range words {
			if strings.Contains(strings.ToLower(line), w) {
				return fmt.Sprintf(" (%q)", strings.TrimSpace(line))
			}
		}
	}
	return ""
}

func signalName(n int) string {
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", n)
}

// named turns the number of an event into a name.
func named(number string) string {
	n := 0
	if _, err := fmt.Sscan(number, &n); err != nil {
		return number
	}
	return signalName(n)
}

// size is one that --memory takes.
func size(n uint64) string {
	return units.CustomSize("%.4g%s", float64(n), 1024, []string{"b", "k", "m", "g", "t"})
}
