package hosts

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files writes a system's files and describes them.
func files(t *testing.T, content map[string]string) Files {
	dir := t.TempDir()
	for name, text := range content {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Files{Certs: []string{filepath.Join(dir, "user"), filepath.Join(dir, "certs.d")},
		Registries: []string{filepath.Join(dir, "registries.conf"), filepath.Join(dir, "registries.conf.d")}, Daemon: filepath.Join(dir, "daemon.json")}
}

// brief writes places as HOST PATH REPOSITORY and a letter for each property.
func brief(list []Place) string {
	var out []string
	for _, p := range list {
		s := p.Host + " " + p.Path + " " + p.Repository + " "
		for i, is := range []bool{p.Pull, p.Resolve, p.Push, p.Plain, p.Unverified, p.Mirror} {
			if is {
				s += "lrpium"[i : i+1]
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, "\n")
}

const hostsToml = `
server = "https://up.example:444"
skip_verify = true
[host."https://z.example"]
  capabilities = ["pull", "resolve"]
[host."http://a:5000/proxy"]
  override_path = true
  [host."http://a:5000/proxy".header]
    x-who = ["me", "you"]
[host."m"]
  capabilities = ["pull"]
  ca = "own.pem"
  client = [["/c.pem", "k.pem"], ["/d.pem"]]
[host."https://n/sub"]
`

const registriesConf = `
unqualified-search-registries = ["quay.io"]
[aliases]
"x" = "quay.io/x/x"
[[registry]]
location = "example.com"
insecure = true
[[registry]]
prefix = "example.com/team"
location = "other.com:5000/theirs"
  [[registry.mirror]]
  location = "m1/a"
  insecure = true
  [[registry.mirror]]
  location = "m2"
  pull-from-mirror = "digest-only"
  [[registry.mirror]]
  location = "m3"
  pull-from-mirror = "tag-only"
[[registry]]
prefix = "*.wild.com/x"
[[registry]]
prefix = "bad.com"
blocked = true
[[registry]]
location = "docker.io"
mirror-by-digest-only = true
[[registry.mirror]]
location = "mirror.io"
`

func TestFind(t *testing.T) {
	toml := map[string]string{"certs.d/up.example/hosts.toml": hostsToml, "certs.d/up.example/x.crt": "", "certs.d/h_5000_/hosts.toml": `server = "http://h:5001"`,
		"certs.d/docker.io/hosts.toml": `server = "https://registry-1.docker.io"`, "registries.conf": registriesConf,
		"daemon.json": `{"registry-mirrors": ["https://no.example"], "insecure-registries": ["10.0.0.0/8", "old:80"]}`}
	conf := map[string]string{"registries.conf": registriesConf, "registries.conf.d/a.conf": "[[registry]]\nlocation = 'added.com'\n[[registry.mirror]]\nlocation='m4:1'"}
	daemon := map[string]string{"daemon.json": `{"registry-mirrors": ["https://m.example/"], "insecure-registries": ["m.example"]}`}
	const plain = " /v2 p/q lrp"
	for _, c := range []struct {
		content            map[string]string
		domain, repository string
		byDigest           bool
		want               string
	}{
		{nil, "quay.io", "p/q", false, "quay.io" + plain},
		{nil, "127.0.0.1:5000", "p/q", false, "127.0.0.1:5000" + plain + "i"},
		{nil, "[::1]:5000", "p/q", false, "[::1]:5000" + plain + "i"},
		{nil, "192.168.1.1:5000", "p/q", false, "192.168.1.1:5000" + plain},
		{toml, "10.1.2.3:5000", "p/q", false, "10.1.2.3:5000" + plain + "iu"},
		{toml, "old:80", "p/q", false, "old:80" + plain + "iu"},
		{toml, "up.example", "p/q", false, "z.example /v2 p/q lrm\na:5000 /proxy p/q lrpim\nm:443 /v2 p/q lm\nn:443 /sub/v2 p/q lrpm\nup.example:444 /v2 p/q lrpu"},
		{toml, "h:5000", "p/q", false, "h:5001 /v2 p/q lrpi"},
		{toml, "docker.io", "library/a", true, "docker.io /v2 library/a lrp"},
		{map[string]string{"user/_default/hosts.toml": `[host."http://127.0.0.1"]`}, "quay.io", "p/q", false, "127.0.0.1:80 /v2 p/q lrpim\nquay.io" + plain},
		{conf, "example.com", "p/q", false, "example.com" + plain + "iu"},
		{conf, "example.com", "team/q", false, "m1 /v2 a/q lrium\nm3 /v2 q lrm\nother.com:5000 /v2 theirs/q lrp"},
		{conf, "example.com", "team/q", true, "m1 /v2 a/q lrium\nm2 /v2 q lrm\nother.com:5000 /v2 theirs/q lrp"},
		{conf, "example.com", "teams/q", false, "example.com /v2 teams/q lrpiu"},
		{conf, "a.wild.com", "x/q", false, "a.wild.com /v2 x/q lrp"},
		{conf, "added.com", "p/q", false, "m4:1 /v2 p/q lrm\nadded.com" + plain},
		{conf, "docker.io", "library/a", false, "docker.io /v2 library/a lrp"},
		{conf, "docker.io", "library/a", true, "mirror.io /v2 library/a lrm\ndocker.io /v2 library/a lrp"},
		{daemon, "docker.io", "library/a", false, "m.example /v2 library/a lrium\ndocker.io /v2 library/a lrp"},
		{daemon, "quay.io", "p/q", false, "quay.io" + plain},
	} {
		got, err := files(t, c.content).Find(c.domain, c.repository, c.byDigest)
		if err != nil || brief(got) != c.want {
			t.Errorf("%s/%s: %v\n%s\nwant\n%s", c.domain, c.repository, err, brief(got), c.want)
		}
	}
	f := files(t, toml)
	got, _ := f.Find("up.example", "p/q", false)
	dir := filepath.Join(f.Certs[1], "up.example")
	if s := fmt.Sprint(got[2].CAs, got[2].Pairs, got[1].Header); s != fmt.Sprintf("[%s/own.pem] [[/c.pem %s/k.pem] [/d.pem /d.pem]] map[X-Who:[me you]]", dir, dir) {
		t.Errorf("got %s", s)
	}
	if _, err := f.Find("bad.com", "p/q", false); err == nil || !strings.Contains(err.Error(), "blocked") {
		t.Errorf("a blocked registry: %v", err)
	}
}

func TestBadFiles(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"no toml":          {"certs.d/x/hosts.toml", "=", "hosts.toml"},
		"no address":       {"certs.d/x/hosts.toml", `server = "ftp://x"`, "HOST"},
		"capability":       {"certs.d/x/hosts.toml", `capabilities = ["fly"]`, "fly"},
		"number":           {"certs.d/x/hosts.toml", `ca = 3`, "want a text"},
		"three files":      {"certs.d/x/hosts.toml", `client = [["a","b","c"]]`, "its key"},
		"version 1":        {"registries.conf", "[registries.search]\nregistries=['x']", "version 1"},
		"neither":          {"registries.conf", "[[registry]]\ninsecure=true", "needs a location"},
		"star":             {"registries.conf", "[[registry]]\nprefix='a.*.b'\nlocation='x'", "needs a location"},
		"pull-from-mirror": {"registries.conf", "[[registry]]\nlocation='x'\n[[registry.mirror]]\nlocation='y'\npull-from-mirror='never'", "never"},
		"location":         {"registries.conf", "[[registry]]\nlocation='https://x'\nprefix='x'", "location"},
		"no JSON":          {"daemon.json", "{", "daemon.json"},
	} {
		if got, err := files(t, map[string]string{c.file: c.text}).Find("x", "p/q", false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", name, got, err, c.want)
		}
	}
}

func FuzzHosts(f *testing.F) {
	f.Add([]byte(hostsToml))
	f.Add([]byte(registriesConf))
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := parseHosts("/x/hosts.toml", body, "up.example", "p/q")
		if err == nil && (len(list) == 0 || list[len(list)-1].Mirror) {
			t.Fatalf("no registry itself: %v", list)
		}
		for _, p := range list {
			if err == nil && (p.Host == "" || !strings.HasPrefix(p.Path, "/")) {
				t.Fatalf("%+v", p)
			}
		}
		_, _ = parseRegistries("x", body)
	})
}
