package reference

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	cases := []struct{ name, want, familiar string }{
		{"alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"},
		{"user/app", "docker.io/user/app:latest", "user/app:latest"},
		{"localhost/busybox", "localhost/busybox:latest", "localhost/busybox:latest"},
		{"localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"},
		{"docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"},
		{"ghcr.io/x/y@" + digest, "ghcr.io/x/y@" + digest, "ghcr.io/x/y@" + digest},
		{"x:1@" + digest, "docker.io/library/x:1@" + digest, "x:1@" + digest},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
		{"a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest", "a__b/c--d.e_f:latest"},
	}
	for _, c := range cases {
		r, err := Parse(c.name)
		if err != nil || r.String() != c.want || r.Familiar() != c.familiar {
			t.Errorf("%s: %s, %s, %v", c.name, r, r.Familiar(), err)
		}
	}
	for _, bad := range []string{"", "Alpine", "a//b", "/a", "a/", "a:", "a:b c", "a@sha256:12", "a___b", "-a", "a..b", "x/Y", "a:" + strings.Repeat("t", 129), "-x.io/a", "a.io:/b"} {
		if r, err := Parse(bad); err == nil {
			t.Errorf("%q is taken for %s", bad, r)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"alpine", "localhost:5000/a/b:c", "x:1@sha256:" + strings.Repeat("a", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		r, err := Parse(name)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil || again != r {
			t.Errorf("%q: %v is read as %v, %v", name, r, again, err)
		}
		if short, err := Parse(r.Familiar()); err != nil || short != r {
			t.Errorf("%q: %v is read as %v, %v", r.Familiar(), r, short, err)
		}
	})
}
