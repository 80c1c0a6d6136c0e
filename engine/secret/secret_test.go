//go:build linux

package secret

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-containers/berth/internal/errs"
)

func sources() Sources {
	return Sources{Getenv: func(name string) (string, bool) { return "of " + name, name == "KEY" }, Stdin: strings.NewReader("typed")}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{"", "x", "id=x", "id=x,src=a,env=KEY", "src=/a", "id=a/b,src=/a", "id=..,src=/a", "id=x,env=NONE", "id=x,src=/a,mode=9", "id=x,src=/a,uid=-1", "id=x,src=/a,foo=1", `id="x`} {
		if s, err := Parse(bad, "/run/secrets", sources()); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %+v, %v", bad, s, err)
		}
	}
	if _, err := Parse("id=x,src=-", "/", Sources{}); err == nil {
		t.Error("the container's standard input was taken")
	}
	for spec, want := range map[string]Secret{
		"id=k,env=KEY":                               {Name: "k", Target: "/run/secrets/k", Mode: 0o444, Value: []byte("of KEY")},
		"id=k,src=-,target=sub/t":                    {Name: "k", Target: "/run/secrets/sub/t", Mode: 0o444, Value: []byte("typed")},
		"id=k,src=/f,target=/etc/t,mode=0400,uid=7":  {Name: "k", Target: "/etc/t", Mode: 0o400, UID: 7, File: "/f"},
		"id=k,\"cmd=echo a,b\",target=../../x,gid=8": {Name: "k", Target: "/run/secrets/x", Mode: 0o444, GID: 8, Command: "echo a,b"},
	} {
		s, err := Parse(spec, "/run/secrets", sources())
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if s.Name != want.Name || s.Target != want.Target || s.Mode != want.Mode || s.UID != want.UID || s.GID != want.GID || s.File != want.File || s.Command != want.Command || string(s.Value) != string(want.Value) {
			t.Errorf("%s: %+v", spec, s)
		}
		if b, _ := json.Marshal(s); strings.Contains(string(b), "VHlwZWQ") || strings.Contains(string(b), "Value") {
			t.Errorf("the value is in %s", b)
		}
	}
}

func TestValuesArePlaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/f", []byte("in a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{"id=a,src=" + dir + "/f": "in a file", "id=b,env=KEY": "of KEY", "id=c,cmd=printf out": "out", "id=d,src=-": "typed"} {
		s, err := Parse(spec, "/s", sources())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Keep(dir + "/kept"); err != nil {
			t.Fatal(err)
		}
		s.Value = nil
		file, err := s.Place(dir+"/run", dir+"/kept", 5, 6)
		if err != nil {
			t.Error(err)
			continue
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", spec, b, err)
		}
	}
	if fi, err := os.Stat(dir + "/run"); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	gone, _ := Parse("id=e,src="+filepath.Join(dir, "none"), "/s", sources())
	if err := gone.Check(); !errs.Is(err, errs.Invalid) {
		t.Errorf("a file that is not there: %v", err)
	}
	failing, _ := Parse("id=f,cmd=echo why >&2; exit 1", "/s", sources())
	if _, err := failing.Place(dir+"/run", dir, 0, 0); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("a command that fails: %v", err)
	}
}
