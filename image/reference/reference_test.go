package reference

import (
	"strings"
	"testing"

	docker "github.com/distribution/reference"
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

// FuzzAsDocker compares with the library that docker reads names with.
func FuzzAsDocker(f *testing.F) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, s := range []string{"alpine", "localhost:5000/a/b:c", "x:1@" + digest, "a.b", "a.b/c", "A/b", "localhost", "a:5000/b", "[::1]:5000/x", "[::1]/x", "a__b/c---d",
		"docker.io/x", "index.docker.io/x/y", "docker.io/library/x", "a/b/c", "a:b:c", "1.2.3.4/x", "LOCALHOST/x", "Ab.c/d", "x@" + digest, strings.Repeat("ab/", 90) + "c", strings.Repeat("f", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ours, err := Parse(name)
		theirs, terr := docker.ParseNormalizedNamed(name)
		if terr == nil && strings.Contains(name, "@") && !strings.Contains(name, "@sha256:") {
			return // registries have other digests, this store has not
		}
		if terr != nil && len(strings.Trim(name, "0123456789abcdef")) == 0 {
			return // an image's whole id, which docker keeps out of names, and the store looks for first
		}
		if (err == nil) != (terr == nil) {
			t.Fatalf("%q: %v, %v; docker: %v, %v", name, ours, err, theirs, terr)
		}
		if err == nil && ours.String() != docker.TagNameOnly(theirs).String() {
			t.Fatalf("%q: %v, docker: %v", name, ours, docker.TagNameOnly(theirs))
		}
	})
}
