//go:build linux

package test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/linux/lsm"
)

// TestScripts runs the sessions of scripts/. Each has an engine of its own. Commands beside testscript's own:
//
//	status N COMMAND...     the command ends with exit status N
//	eventually COMMAND...   the command succeeds within half a minute
//	shell 'SCRIPT'          runs a line of sh
//	clean                   nothing of a container is left
//
// Conditions: [v1] and [v2], the version of control groups; [apparmor] and [selinux], the kernel has it, and the tools are there; [exitinfo], the kernel tells anybody how a process ended; [prjquota], the kernel has project quotas; [prog:NAME], as testscript's exec; [debian], there is a
// Debian root file system with real programs (debian-image.sh).
func TestScripts(t *testing.T) {
	mode, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "scripts",
		Setup: func(env *testscript.Env) error {
			// Users of containers' user namespaces must reach the files that are mounted.
			for _, dir := range []string{env.WorkDir, filepath.Dir(env.WorkDir)} {
				if err := os.Chmod(dir, 0o711); err != nil {
					return err
				}
			}
			env.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			env.Setenv("BERTH_ROOT", filepath.Join(env.WorkDir, "root"))
			env.Setenv("BERTH_STATE", filepath.Join(env.WorkDir, "state"))
			env.Setenv("RUNTIME", filepath.Join(bin, "berth-runtime"))
			env.Setenv("DEBIAN_TAR", debianTar())
			env.Setenv("HOME", env.WorkDir)
			if rounds := os.Getenv("BERTH_TEST_ROUNDS"); rounds != "" { // more than usual
				env.Setenv("BERTH_TEST_ROUNDS", rounds)
			}
			env.Values["traces"] = traces()
			env.Defer(func() {
				cmd := exec.Command("sh", "-c", "berth ps -aq | xargs -r berth rm -f; test ! -d $BERTH_STATE/images || berth image unmount -a")
				cmd.Env = env.Vars
				_ = cmd.Run()
			})
			return nil
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "apparmor":
				_, err := exec.LookPath("apparmor_parser")
				return err == nil && lsm.AppArmor(), nil
			case "selinux":
				return lsm.SELinux(), nil
			case "emulated":
				return os.Getenv("BERTH_TEST_PROGRAMS") != "", nil
			case "exitinfo":
				return foreignStatusKnown()
			case "v1":
				return mode != cgroup.V2, nil
			case "v2":
				return mode == cgroup.V2, nil
			}
			if name == "debian" {
				_, err := os.Stat(debianTar())
				return err == nil, nil
			}
			if name == "prjquota" {
				return projectQuotas(), nil
			}
			if program, ok := strings.CutPrefix(name, "prog:"); ok {
				_, err := exec.LookPath(program)
				return err == nil, nil
			}
			return false, errors.New("unknown condition " + name)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status, "eventually": eventually, "shell": shell, "clean": clean, "systemd": underSystemd,
		},
	})
}

func debianTar() string {
	if file := os.Getenv("DEBIAN_TAR"); file != "" {
		return file
	}
	cache, _ := os.UserCacheDir()
	return filepath.Join(cache, "berth-test", "debian.tar")
}

// projectQuotas tries whether an ext4 can be mounted with them, which needs CONFIG_QFMT_V2.
var projectQuotas = sync.OnceValue(func() bool {
	cmd := exec.Command("sh", "-c", "d=$(mktemp -d) && truncate -s 8M $d/disk && mkfs.ext4 -q -O quota,project $d/disk && mkdir $d/at && mount -o loop,prjquota $d/disk $d/at && umount $d/at; s=$?; rm -rf $d; exit $s")
	return cmd.Run() == nil
})

func status(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || neg {
		ts.Fatalf("usage: status N COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var ended *exec.ExitError
		if !errors.As(err, &ended) {
			ts.Fatalf("%v", err)
		}
		got = ended.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

func eventually(ts *testscript.TestScript, neg bool, args []string) {
	switch args[0] {
	case "exec":
		args = args[1:]
	case "shell":
		args = []string{"sh", "-c", strings.Join(args[1:], " ")}
	}
	until := time.Now().Add(30 * time.Second)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if (err == nil) != neg {
			return
		}
		if time.Now().After(until) {
			ts.Fatalf("after half a minute: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func shell(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("sh", "-c", strings.Join(args, " "))
	if (err != nil) != neg {
		ts.Fatalf("sh: %v", err)
	}
}

// clean looks for what containers of this script have left: on the host, and in the engine's folders.
func clean(ts *testscript.TestScript, neg bool, args []string) {
	before := ts.Value("traces").(map[string]bool)
	var left []string
	for range 100 { // what is being ended may take a moment
		left = nil
		for _, what := range newTraces(before) {
			left = append(left, what)
		}
		for _, dir := range []string{"root/containers", "root/names", "state/containers", "state/runtime", "state/netns", "state/endpoints"} {
			entries, err := os.ReadDir(ts.MkAbs(dir))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				ts.Check(err)
			}
			for _, e := range entries {
				left = append(left, dir+"/"+e.Name())
			}
		}
		if len(left) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	slices.Sort(left)
	ts.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
}

// newRoot makes the folder of an engine, whose containers are removed at the end also of a test that has failed.
func newRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	t.Cleanup(func() {
		ids, _, _ := berth(t, root, "ps", "-aq")
		for _, id := range strings.Fields(ids) {
			_, _, _ = berth(t, root, "rm", "-f", id)
		}
	})
	return root
}

// berth runs a command of an engine and returns its output.
func berth(t *testing.T, root string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "berth"), append([]string{"--root", root + "/root", "--state", root + "/state"}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}
