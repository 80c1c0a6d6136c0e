//go:build linux

package why

import (
	"strings"
	"testing"
	"time"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/linux/cgroup"
)

// ended is a container whose program has run and ended.
func ended(change func(v *evidence)) *evidence {
	v := &evidence{c: &engine.Container{}, in: &engine.Inspection{}, exit: &engine.Exit{StartedAt: time.Unix(1, 0), FinishedAt: time.Unix(2, 0), Marks: &cgroup.Marks{}}}
	v.in.InspectResponse = docker.InspectResponse{Path: "/bin/app", State: &docker.State{Status: docker.StateExited}, Config: &docker.Config{Image: "img"}, HostConfig: &docker.HostConfig{}}
	v.program = "app"
	change(v)
	return v
}

func TestVerdicts(t *testing.T) {
	yes := true
	shell := func(v *evidence) { v.program, v.in.Path, v.in.Args = "sh", "/bin/sh", []string{"-c", "a; b"} }
	for name, c := range map[string]struct {
		change                  func(v *evidence)
		verdict, certainty, fix string // a part of each
	}{
		"success": {func(v *evidence) {}, "by itself, without an error", Certain, ""},
		"runs":    {func(v *evidence) { v.in.State.Status = docker.StateRunning; v.exit.Code = 4 }, "running again; the run before ended with exit code 4", Certain, ""},
		"created": {func(v *evidence) { v.in.State.Status = docker.StateCreated; v.exit = nil }, "never started", Certain, "berth start"},
		"no start": {func(v *evidence) {
			v.exit.StartedAt, v.exit.Code, v.exit.Error = time.Time{}, 127, "no such file"
		}, "could not be started: no such file", Certain, ""},
		"OOM": {func(v *evidence) {
			v.exit.OOMKilled, v.exit.Signal, v.exit.Code, v.exit.Marks.MemoryLimit = true, 9, 137, 64<<20
		}, "met its limit of 64m", Certain, "--memory 128m"},
		"OOM of a child": {func(v *evidence) { v.exit.OOMKilled, v.exit.Code = true, 1 }, "a process of it", Likely, "--memory"},
		"health":         {func(v *evidence) { v.exit.By, v.exit.Signal = "health", 9 }, "health checks failed", Certain, "berth exec"},
		"stop":           {func(v *evidence) { v.exit.By = "stop" }, "asked to end by `berth stop`, and ended with exit code 0", Certain, ""},
		"stop, late": {func(v *evidence) {
			v.exit.By, v.exit.Signal, v.exit.Code = "stop", 9, 137
			v.events = []Happening{{Action: "kill", Detail: "signal=2"}, {Action: "start"}, {Action: "kill", Detail: "signal=15"}, {Action: "kill", Detail: "signal=9"}}
		}, "did not end on SIGTERM", Certain, "as process 1"},
		"stop, late, shell": {func(v *evidence) {
			shell(v)
			v.exit.By, v.exit.Signal = "stop", 9
			v.events = []Happening{{Action: "kill", Detail: "signal=15"}, {Action: "kill", Detail: "signal=9"}}
		}, "did not end on SIGTERM", Certain, "exec COMMAND"},
		"stop, late, init": {func(v *evidence) {
			shell(v)
			v.in.HostConfig.Init = &yes
			v.exit.By, v.exit.Signal = "timeout", 9
			v.events = []Happening{{Action: "kill", Detail: "signal=15"}, {Action: "kill", Detail: "signal=9"}}
		}, "ended by its --timeout, with SIGKILL", Certain, "--timeout 30"},
		"kill":   {func(v *evidence) { v.exit.By, v.exit.Signal = "kill", 9 }, "ended by `berth kill`", Certain, ""},
		"kernel": {func(v *evidence) { v.exit.Signal, v.kernel = 9, "Out of memory: Killed process 5 (app)" }, "the host as a whole", Certain, "limits"},
		"host":   {func(v *evidence) { v.exit.Signal, v.exit.Code = 9, 137 }, "Somebody on the host", Likely, "journalctl"},
		"lost": {func(v *evidence) {
			v.exit = &engine.Exit{Code: 255, Unknown: true, Error: "lost", StartedAt: time.Unix(1, 0)}
		}, "no monitor", Certain, ""},
		"stop, lost":  {func(v *evidence) { v.exit.By, v.exit.Unknown = "stop", true }, "how it ended is not known", Certain, ""},
		"crash":       {func(v *evidence) { v.exit.Signal, v.exit.Code = 11, 139 }, "SIGSEGV", Certain, ""},
		"child crash": {func(v *evidence) { v.exit.Code = 135; v.in.HostConfig.ShmSize = 64 << 20 }, "SIGBUS", Likely, "now 64m"},
		"not found":   {func(v *evidence) { shell(v); v.exit.Code, v.log = 127, []string{"sh: a: not found"} }, `("sh: a: not found")`, Likely, "command -v"},
		"pids":        {func(v *evidence) { v.exit.Code, v.exit.Marks.PidsHits, v.exit.Marks.PidsLimit = 2, 7, 10 }, "7 forks were refused", Likely, "--pids-limit 20"},
		"port":        {func(v *evidence) { v.exit.Code, v.log = 1, []string{"bind(): Address already in use", "bye"} }, "its port is taken", Guess, "netstat"},
		"own code":    {func(v *evidence) { v.exit.Code = 42 }, "exit code 42", Certain, "berth logs"},
		"idle shell":  {func(v *evidence) { v.program = "bash" }, "had no input", Likely, "-it img"},
	} {
		f := ended(c.change).judge()
		if !strings.Contains(f.verdict, c.verdict) || f.certainty != c.certainty || !strings.Contains(strings.Join(f.fix, "\n"), c.fix) {
			t.Errorf("%s: %+v", name, *f)
		}
	}
}

func TestOOMLine(t *testing.T) {
	record := "3,1234,5678,-;Out of memory: Killed process 77 (app) total-vm:1kB\n SUBSYSTEM=x\n"
	if got := oomLine(record, 77); got != "Out of memory: Killed process 77 (app) total-vm:1kB" {
		t.Errorf("got %q", got)
	}
	for _, other := range []string{"", ";", "3,1;Memory cgroup out of memory: Killed process 77 (app)", strings.Replace(record, "77", "777", 1)} {
		if got := oomLine(other, 77); got != "" {
			t.Errorf("%q gives %q", other, got)
		}
	}
}
