//go:build linux

package devices

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	docker "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.yaml.in/yaml/v3"

	"github.com/berth-containers/berth/internal/errs"
)

const nvidia = `---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
    - name: "0"
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
              hostPath: /dev/null
              permissions: rwm
            - {path: /dev/dri/card1, type: c, major: 226, minor: 1, fileMode: 432, uid: 7}
    - name: all
      containerEdits:
        env: [ONE=1, "TWO=a:b"]
containerEdits:
    env:
        - NVIDIA_VISIBLE_DEVICES=void
    additionalGids: [0, 44]
    hooks:
        - hookName: createContainer
          path: /bin/true
          args: ["true", --x]
          timeout: 3
    mounts:
        - hostPath: /etc/hostname
          containerPath: /usr/lib/libcuda.so
          options: [ro, nosuid]
`

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func use(t *testing.T, dirs ...string) {
	before := Folders
	Folders = dirs
	t.Cleanup(func() { Folders = before })
}

func empty() *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Env: []string{"ONE=0", "X=y"}}, Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
}

func TestInject(t *testing.T) {
	use(t, folder(t, map[string]string{"nvidia.yaml": nvidia}))
	names, err := Resolve([]docker.DeviceRequest{{Count: -1}, {DeviceIDs: []string{"0"}}, {Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=0"}}})
	if err != nil || !slices.Equal(names, []string{"nvidia.com/gpu=all", "nvidia.com/gpu=0"}) {
		t.Fatalf("%v, %v", names, err)
	}
	s := empty()
	if err := Inject(s, names); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Process.Env, " "); got != "X=y NVIDIA_VISIBLE_DEVICES=void ONE=1 TWO=a:b" {
		t.Errorf("env %s", got)
	}
	if d := s.Linux.Devices; len(d) != 2 || d[0].Path != "/dev/nvidia0" || d[0].Major != 1 || d[0].Minor != 3 || d[1].Major != 226 || *d[1].FileMode != 0o660 || *d[1].UID != 7 {
		t.Errorf("devices %+v", d)
	}
	if r := s.Linux.Resources.Devices; len(r) != 2 || r[0].Access != "rwm" || r[1].Access != "rw" || !r[1].Allow || *r[1].Minor != 1 {
		t.Errorf("rules %+v", r)
	}
	if m := s.Mounts; len(m) != 1 || m[0].Type != "bind" || strings.Join(m[0].Options, ",") != "rbind,ro,nosuid" {
		t.Errorf("mounts %+v", m)
	}
	if h := s.Hooks.CreateContainer; len(h) != 1 || h[0].Path != "/bin/true" || *h[0].Timeout != 3 || len(h[0].Args) != 2 {
		t.Errorf("hooks %+v", h)
	}
	if g := s.Process.User.AdditionalGids; !slices.Equal(g, []uint32{44}) {
		t.Errorf("groups %v", g)
	}
}

func TestResolveRefuses(t *testing.T) {
	json := `{"cdiVersion": "0.6.0", "kind": "acme.com/gpu", "devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}}]}`
	use(t, folder(t, map[string]string{"a.json": json, "bad.yaml": "kind: [", "note.txt": "x"}))
	if names, err := Resolve([]docker.DeviceRequest{{DeviceIDs: []string{"a"}}}); err != nil || names[0] != "acme.com/gpu=a" {
		t.Errorf("the only vendor: %v, %v", names, err)
	}
	_, err := Resolve([]docker.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"acme.com/gpu=b"}}})
	if !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "bad.yaml") || !strings.Contains(errs.HintOf(err), "acme.com/gpu=a") {
		t.Errorf("%v; %s", err, errs.HintOf(err))
	}
	// A later folder hides an earlier one; of two in one folder neither counts.
	use(t, folder(t, map[string]string{"a.json": json}), folder(t, map[string]string{"a.json": strings.Replace(json, "A=1", "A=2", 1)}))
	s := empty()
	if err := Inject(s, []string{"acme.com/gpu=a"}); err != nil || !slices.Contains(s.Process.Env, "A=2") {
		t.Errorf("%v, %v", s.Process.Env, err)
	}
	use(t, folder(t, map[string]string{"a.json": json, "b.json": json}))
	if _, err := Resolve([]docker.DeviceRequest{{DeviceIDs: []string{"a"}}}); !errs.Is(err, errs.NotFound) {
		t.Errorf("twice: %v", err)
	}
	use(t, t.TempDir())
	if _, err := Resolve([]docker.DeviceRequest{{Count: 2}}); !errs.Is(err, errs.NotFound) {
		t.Errorf("no GPUs: %v", err)
	}
}

func TestIsCDI(t *testing.T) {
	for name, want := range map[string]bool{"nvidia.com/gpu=0": true, "/dev/x=y": false, "/dev/null": false, "a/b": false, "a/b/c=d": false, "=": false} {
		if IsCDI(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// Nothing that stands in a file makes the reader fail but by an error.
func FuzzParse(f *testing.F) {
	f.Add([]byte(nvidia))
	f.Add([]byte(`{"kind": "a/b", "cdiVersion": "1.0.0", "devices": [{"name": 0}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := parse(b)
		if err != nil {
			return
		}
		for i := range file.Devices {
			_ = file.Devices[i].Edits.apply(empty())
		}
	})
}

// What is read as YAML means what a library for it says, or is refused.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{nvidia, "a: [b, {c: d}, 'e''f', \"g\\n\"] # h\n", "- a\n- - b\n  - c\n-\n  d: 1\n", "k:\n- 1\n- x: y\n  z: ~\n", "a: 'b # c'\nd: e#f\n", "{a: b}", "a: |\n b\n", "a: 0660", "x: 1.5", "? a", "a: b: c", "- a: b\n   c: d"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readYAML(b)
		if err != nil {
			return
		}
		var want any
		if err := yaml.Unmarshal(b, &want); err != nil {
			t.Fatalf("%q was read as %#v; the library: %v", b, got, err)
		}
		g, _ := json.Marshal(got)
		w, werr := json.Marshal(want)
		if werr == nil && string(g) != string(w) {
			t.Fatalf("%q was read as %s, the library reads %s", b, g, w)
		}
	})
}
