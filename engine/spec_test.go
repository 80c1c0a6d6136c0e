//go:build linux

package engine

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	docker "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/caps"
	"github.com/berth-containers/berth/linux/lsm"
)

var update = flag.Bool("update", false, "write the golden files")

func newEngine(t *testing.T) *Engine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	e, err := Open(Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// golden compares the translation with what it was, but for ids and paths.
func golden(t *testing.T, name string, s *specs.Spec, c *Container) {
	t.Helper()
	s.Linux.Seccomp = nil // package profile's, and long
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got := string(b) + "\n"
	for _, r := range [][2]string{{c.e.root, "ROOT"}, {c.e.state, "STATE"}, {c.ID, "ID"}, {c.ShortID(), "SHORTID"}, {c.Lowers[0], "LAYER"}} {
		got = strings.ReplaceAll(got, r[0], r[1])
	}
	got = regexp.MustCompile(`(?m)^ *"/sys/devices/system/cpu/cpu[0-9]+/thermal_throttle",?\n`).ReplaceAllString(got, "")
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (go test ./engine -run Spec -update writes it anew):\n%s", file, diff)
	}
}

func TestSpec(t *testing.T) {
	e := newEngine(t)
	pids := int64(99)
	timeout := 3
	cases := map[string]Config{
		"plain": {Config: docker.Config{Image: DefaultImage, Cmd: []string{"sh"}}, HostConfig: docker.HostConfig{NetworkMode: "none"}},
		"limits": {
			Config: docker.Config{Image: DefaultImage, Cmd: []string{"sh"}, Tty: true, User: "1000:1001", WorkingDir: "/tmp", Env: []string{"A=b"}, Hostname: "box", StopTimeout: &timeout},
			HostConfig: docker.HostConfig{NetworkMode: "none", ReadonlyRootfs: true, CapDrop: []string{"ALL"}, CapAdd: []string{"net_raw"}, GroupAdd: []string{"12"},
				SecurityOpt: []string{"no-new-privileges"}, Tmpfs: map[string]string{"/t": "size=1m"}, ShmSize: 1 << 20, OomScoreAdj: 7, Sysctls: map[string]string{"net.ipv4.ip_forward": "1"},
				Resources: docker.Resources{Memory: 64 << 20, NanoCPUs: 1.5e9, CPUShares: 512, PidsLimit: &pids}},
		},
		"host": {Config: docker.Config{Image: DefaultImage, Cmd: []string{"sh"}},
			HostConfig: docker.HostConfig{NetworkMode: "host", PidMode: "host", IpcMode: "host", UTSMode: "host", CgroupnsMode: "host"}},
		"userns": {Config: docker.Config{Image: DefaultImage, Cmd: []string{"sh"}}, HostConfig: docker.HostConfig{NetworkMode: "none", UsernsMode: "100000:200000:65536"}},
	}
	for name, cfg := range cases {
		t.Run(name, func(t *testing.T) {
			c, err := e.Create(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer c.erase()
			s, err := c.spec()
			if err != nil {
				t.Fatal(err)
			}
			if profile := s.Process.ApparmorProfile; lsm.AppArmor() == (profile == "") {
				t.Errorf("AppArmor's profile is %q", profile)
			}
			// That depends on the host.
			s.Process.ApparmorProfile, s.Process.SelinuxLabel, s.Linux.MountLabel = "", "", ""
			golden(t, name, s, c)
		})
	}
}

// A privileged container has all of the host's rights and devices, and that is all it has.
func TestPrivilegedSpec(t *testing.T) {
	e := newEngine(t)
	c, err := e.Create(Config{Config: docker.Config{Image: DefaultImage, Cmd: []string{"sh"}}, HostConfig: docker.HostConfig{NetworkMode: "none", Privileged: true}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.spec()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Process.Capabilities.Bounding) != len(caps.All()) || s.Linux.Seccomp != nil || len(s.Linux.MaskedPaths) > 0 || len(s.Process.Capabilities.Inheritable) > 0 {
		t.Errorf("%+v, %v, %v", s.Process.Capabilities, s.Linux.Seccomp, s.Linux.MaskedPaths)
	}
}

func TestNames(t *testing.T) {
	e := newEngine(t)
	cfg := Config{Config: docker.Config{Image: DefaultImage}, HostConfig: docker.HostConfig{NetworkMode: "none"}, Name: "bird"}
	c, err := e.Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Create(cfg); !errs.Is(err, errs.Conflict) {
		t.Errorf("the same name again: %v", err)
	}
	for _, name := range []string{"bird", "/bird", c.ID, c.ID[:10]} {
		if got, err := e.Lookup(name); err != nil || got.ID != c.ID {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "..", "../names/bird", "nobody", "bird/../bird"} {
		if _, err := e.Lookup(name); !errs.Is(err, errs.NotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := c.Rename("fish"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Lookup("bird"); err == nil {
		t.Error("the old name still means it")
	}
	if err := c.Remove(RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(e.root, "containers"))
	if err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}
