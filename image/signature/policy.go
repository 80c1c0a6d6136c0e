package signature

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/berth-containers/berth/image/reference"
	"github.com/berth-containers/berth/internal/errs"
)

// policyFiles are where a policy may be, in the format of containers-policy.json(5): the first that is there counts. The
// environment's BERTH_POLICY names another.
var policyFiles = [...]string{"/etc/berth/policy.json", "/etc/containers/policy.json"}

// policy is the file. Of its transports Berth has one, docker: the registries.
type policy struct {
	Default    []rule                       `json:"default"`
	Transports map[string]map[string][]rule `json:"transports"`
}

// rule is one condition, whose fields depend on its type.
type rule struct {
	kind string
	text json.RawMessage
}

func (r *rule) UnmarshalJSON(b []byte) error {
	var t struct {
		Type string `json:"type"`
	}
	err := json.Unmarshal(b, &t)
	r.kind, r.text = t.Type, bytes.Clone(b)
	return err
}

// sigstoreSigned are the fields of a rule of this type. Those about certificates and logs (fulcio, rekor) are unknown.
type sigstoreSigned struct {
	Type     string    `json:"type"`
	KeyPath  string    `json:"keyPath"`
	KeyPaths []string  `json:"keyPaths"`
	KeyData  []byte    `json:"keyData"`
	KeyDatas [][]byte  `json:"keyDatas"`
	Identity *identity `json:"signedIdentity"`
}

// identity says under which name an image must have been signed.
type identity struct {
	Type         string `json:"type"`
	Reference    string `json:"dockerReference"`
	Repository   string `json:"dockerRepository"`
	Prefix       string `json:"prefix"`
	SignedPrefix string `json:"signedPrefix"`
}

// policyFor reads the host's policy, and what it demands of an image.
func policyFor(r reference.Reference) ([]requirement, error) {
	files, chosen := policyFiles[:], os.Getenv("BERTH_POLICY")
	if chosen != "" {
		files = []string{chosen}
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if chosen == "" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errs.New(errs.Invalid, "read policy", err)
		}
		all, err := parsePolicy(b, r, file)
		if err != nil {
			return nil, errs.New(errs.Invalid, "read policy "+file, err)
		}
		return all, nil
	}
	return nil, nil
}

func parsePolicy(b []byte, r reference.Reference, file string) ([]requirement, error) {
	var p policy
	if err := strict(b, &p); err != nil {
		return nil, err
	}
	if len(p.Default) == 0 {
		return nil, errors.New("it has no default")
	}
	scope, rules := p.rules(r)
	by := file
	if scope != "" {
		by += " (" + scope + ")"
	}
	if len(rules) == 0 {
		return nil, fmt.Errorf("it has nothing about %s", scope)
	}
	var out []requirement
	for _, rule := range rules {
		q, err := rule.requirement()
		if err != nil {
			return nil, err
		}
		q.by = by
		out = append(out, *q)
	}
	return out, nil
}

// strict reads JSON that has nothing unknown in it: in a policy that could be a condition.
func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// rules finds those of the narrowest scope that has an image: its name with the tag or digest, its repository, the
// folders above it, its registry, domains above that ("*.example.com"), all registries, everything.
func (p *policy) rules(r reference.Reference) (scope string, rules []rule) {
	full := r.Name() + ":" + r.Tag
	if r.Digest != "" {
		full = r.Name() + "@" + r.Digest
	}
	scopes := []string{full}
	for name := r.Name(); ; name = name[:strings.LastIndexByte(name, '/')] {
		scopes = append(scopes, name)
		if !strings.Contains(name, "/") {
			break
		}
	}
	host, _, _ := strings.Cut(r.Domain, ":")
	for _, rest, ok := strings.Cut(host, "."); ok; _, rest, ok = strings.Cut(rest, ".") {
		scopes = append(scopes, "*."+rest)
	}
	docker := p.Transports["docker"]
	for _, scope := range append(scopes, "") {
		if rules, ok := docker[scope]; ok {
			return scope, rules
		}
	}
	return "", p.Default
}

func (r *rule) requirement() (*requirement, error) {
	switch r.kind {
	case "insecureAcceptAnything":
		return &requirement{}, nil
	case "reject":
		return &requirement{refuse: "nothing from there is taken"}, nil
	case "signedBy":
		return &requirement{refuse: "it wants a signature of GnuPG (signedBy), which Berth does not check; sigstoreSigned is what it does"}, nil
	case "sigstoreSigned":
	default:
		return nil, fmt.Errorf("it has a rule of the unknown type %q", r.kind)
	}
	var s sigstoreSigned
	if err := strict(r.text, &s); err != nil {
		return nil, fmt.Errorf("a rule sigstoreSigned: %w", err)
	}
	out := &requirement{name: s.Identity}
	if out.name == nil {
		out.name = &identity{Type: "matchRepoDigestOrExact"}
	}
	if err := out.name.check(); err != nil {
		return nil, err
	}
	if s.KeyPath != "" {
		s.KeyPaths = append(s.KeyPaths, s.KeyPath)
	}
	if s.KeyData != nil {
		s.KeyDatas = append(s.KeyDatas, s.KeyData)
	}
	for _, file := range s.KeyPaths {
		keys, err := readKeys(file)
		if err != nil {
			return nil, err
		}
		out.keys = append(out.keys, keys...)
	}
	for _, data := range s.KeyDatas {
		keys, err := parseKeys(data)
		if err != nil {
			return nil, err
		}
		out.keys = append(out.keys, keys...)
	}
	if len(out.keys) == 0 {
		return nil, errors.New("a rule sigstoreSigned has no key")
	}
	return out, nil
}

func (i *identity) check() error {
	need := func(text, what string) error {
		if _, err := reference.Parse(text); err != nil || text == "" {
			return fmt.Errorf("signedIdentity %s: %s is no name", i.Type, what)
		}
		return nil
	}
	switch i.Type {
	case "matchExact", "matchRepoDigestOrExact", "matchRepository":
		return nil
	case "exactReference":
		return need(i.Reference, "dockerReference")
	case "exactRepository":
		return need(i.Repository, "dockerRepository")
	case "remapIdentity":
		if i.Prefix == "" || i.SignedPrefix == "" {
			return errors.New("signedIdentity remapIdentity: prefix and signedPrefix are needed")
		}
		return nil
	}
	return fmt.Errorf("unknown signedIdentity %q", i.Type)
}

// matches compares the name that an image is asked for by with the one it was signed under.
func (i *identity) matches(r reference.Reference, signed string) bool {
	s, err := reference.Parse(signed)
	if err != nil {
		return false
	}
	whole := strings.ContainsAny(signed[strings.LastIndexByte(signed, '/')+1:], ":@")
	exact := func(want reference.Reference) bool { return whole && s == want }
	switch i.Type {
	case "matchExact":
		return exact(r)
	case "matchRepository":
		return s.Name() == r.Name()
	case "exactReference":
		want, err := reference.Parse(i.Reference)
		return err == nil && exact(want)
	case "exactRepository":
		want, err := reference.Parse(i.Repository)
		return err == nil && s.Name() == want.Name()
	case "remapIdentity":
		if rest, ok := strings.CutPrefix(r.Name(), i.Prefix); ok && (rest == "" || rest[0] == '/') {
			renamed, err := reference.Parse(i.SignedPrefix + rest)
			if err != nil {
				return false
			}
			r.Domain, r.Path = renamed.Domain, renamed.Path
		}
	}
	if r.Digest != "" {
		return s.Name() == r.Name()
	}
	return exact(r)
}
