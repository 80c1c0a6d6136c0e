package signature

import (
	"testing"

	"github.com/berth-containers/berth/image/reference"
)

func TestNarrowestScope(t *testing.T) {
	reject := `[{"type":"reject"}]`
	for _, c := range []struct{ scopes, image, want string }{
		{`"docker.io/library/a:1"`, "a:1", "docker.io/library/a:1"},
		{`"docker.io/library/a:1"`, "a:2", "top"},
		{`"docker.io/library":` + reject + `,"docker.io"`, "a", "docker.io/library"},
		{`"docker.io"`, "x/a", "docker.io"},
		{`"*.example.com":` + reject + `,"*.com"`, "r.example.com:5000/a", "*.example.com"},
		{`"*.com"`, "r.example.com/a", "*.com"},
		{`"example.com":` + reject + `,""`, "other.com/a", ""},
	} {
		r, err := reference.Parse(c.image)
		if err != nil {
			t.Fatal(err)
		}
		var p policy
		if err := strict([]byte(`{"default":[{"type":"top"}],"transports":{"docker":{`+c.scopes+`:`+reject+`}}}`), &p); err != nil {
			t.Fatal(err)
		}
		scope, rules := p.rules(r)
		if rules[0].kind == "top" {
			scope = "top"
		}
		if scope != c.want {
			t.Errorf("%s of %s: %q, want %q", c.image, c.scopes, scope, c.want)
		}
	}
}

func TestIdentities(t *testing.T) {
	digest := "@sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, c := range []struct {
		kind, image, signed string
		ok                  bool
	}{
		{"matchExact", "r.io/a:1", "r.io/a:1", true},
		{"matchExact", "r.io/a:1", "r.io/a", false},
		{"matchExact", "r.io/a", "r.io/a", false},
		{"matchRepoDigestOrExact", "r.io/a" + digest, "r.io/a:1", true},
		{"matchRepoDigestOrExact", "r.io/a:2", "r.io/a:1", false},
		{"matchRepository", "r.io/a:2", "r.io/a", true},
		{"matchRepository", "r.io/b", "r.io/a", false},
		{"exactReference", "r.io/b", "r.io/x:1", true},
		{"exactRepository", "r.io/b", "r.io/x", true},
		{"remapIdentity", "mirror.io/up/a:1", "r.io/a:1", true},
		{"remapIdentity", "mirror.io/upper/a:1", "r.io/a:1", false},
		{"matchRepository", "r.io/a", "", false},
	} {
		i := identity{Type: c.kind, Reference: "r.io/x:1", Repository: "r.io/x", Prefix: "mirror.io/up", SignedPrefix: "r.io"}
		r, err := reference.Parse(c.image)
		if err == nil {
			err = i.check()
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := i.matches(r, c.signed); got != c.ok {
			t.Errorf("%s: %s signed as %q: %v", c.kind, c.image, c.signed, got)
		}
	}
}

// A policy comes from an administrator, a key from a file: neither is a panic, whatever is in it.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"default":[{"type":"reject"}],"transports":{"docker":{"":[{"type":"sigstoreSigned","keyData":"YQ==","signedIdentity":{"type":"matchExact"}}]}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parseKeys(b)
		all, err := parsePolicy(b, reference.Reference{Domain: "a", Path: "b", Tag: "c"}, "file")
		if err == nil && len(all) == 0 {
			t.Error("a policy without a condition was taken")
		}
	})
}
