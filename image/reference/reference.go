package reference

import (
	"fmt"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
)

// The registry and folder that a bare name means, and the tag.
const (
	DefaultDomain = "docker.io"
	officialRepo  = "library/"
	DefaultTag    = "latest"
)

// Reference is a whole name.
type Reference struct {
	Domain string // "docker.io", "localhost:5000"
	Path   string // "library/alpine"
	Tag    string // "" with a digest alone
	Digest string // "sha256:…" or ""
}

// Parse reads a name as a user writes it.
func Parse(name string) (Reference, error) {
	r := Reference{}
	rest := name
	bad := func(why string) (Reference, error) {
		return r, errs.New(errs.Invalid, fmt.Sprintf("invalid reference format: %q", name), fmt.Errorf("%s", why))
	}
	if at := strings.IndexByte(rest, '@'); at >= 0 {
		r.Digest, rest = rest[at+1:], rest[:at]
		if !isDigest(r.Digest) {
			return bad("the digest is not sha256: and 64 hexadecimal digits")
		}
	}
	if colon := strings.LastIndexByte(rest, ':'); colon >= 0 && !strings.Contains(rest[colon:], "/") {
		r.Tag, rest = rest[colon+1:], rest[:colon]
		if !isTag(r.Tag) {
			return bad("the tag is none")
		}
	}
	domain, path, ok := strings.Cut(rest, "/")
	if !ok || !strings.ContainsAny(domain, ".:") && domain != "localhost" && strings.ToLower(domain) == domain {
		domain, path = DefaultDomain, rest
	}
	if domain == "index.docker.io" {
		domain = DefaultDomain
	}
	if domain == DefaultDomain && !strings.Contains(path, "/") {
		path = officialRepo + path
	}
	r.Domain, r.Path = domain, path
	if strings.ToLower(path) != path {
		return bad("repository name must be lowercase")
	}
	if !isDomain(domain) || !isPath(path) || len(path) > 255 {
		return bad("it is not [HOST[:PORT]/]PATH[:TAG][@DIGEST]")
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = DefaultTag
	}
	return r, nil
}

// Name is the name without tag and digest.
func (r Reference) Name() string { return r.Domain + "/" + r.Path }

// String is the whole name.
func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// Familiar is the name as people write it: without what a bare name means anyway, but with its tag.
func (r Reference) Familiar() string {
	s := r.String()
	if rest, ok := strings.CutPrefix(s, DefaultDomain+"/"); ok {
		s = strings.TrimPrefix(rest, officialRepo)
	}
	return s
}

func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && strings.Trim(hex, "0123456789abcdef") == ""
}

func alnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

func letter(c byte) bool { return alnum(c) || c >= 'A' && c <= 'Z' }

func isTag(s string) bool {
	for i := range len(s) {
		if c := s[i]; !letter(c) && c != '_' && (i == 0 || c != '.' && c != '-') {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

func isDomain(s string) bool {
	host, port := s, ""
	if strings.HasPrefix(s, "[") { // IPv6
		end := strings.IndexByte(s, ']')
		if end < 0 || strings.Trim(s[1:end], "0123456789abcdefABCDEF:") != "" {
			return false
		}
		host, port = "x", strings.TrimPrefix(s[end+1:], ":")
	} else if h, p, ok := strings.Cut(s, ":"); ok {
		host, port = h, p
		if port == "" {
			return false
		}
	}
	if strings.Trim(port, "0123456789") != "" {
		return false
	}
	for _, label := range strings.Split(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !letter(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return true
}

// isPath checks components of letters and digits, between which stand one dot, one or two underscores, or dashes.
func isPath(s string) bool {
	for _, part := range strings.Split(s, "/") {
		if part == "" || !alnum(part[0]) || !alnum(part[len(part)-1]) {
			return false
		}
		for i := 0; i < len(part); {
			if alnum(part[i]) {
				i++
				continue
			}
			n := 1
			for part[i+n] == part[i] { // ends, because the last byte is a letter or digit
				n++
			}
			if c := part[i]; !(c == '.' && n == 1 || c == '_' && n <= 2 || c == '-') || !alnum(part[i+n]) {
				return false
			}
			i += n
		}
	}
	return true
}
