package hosts

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// host is what a hosts.toml says of one place (containerd, docs/hosts.md). any is a text or a list.
type host struct {
	Capabilities []string       `toml:"capabilities"`
	CA           any            `toml:"ca"`
	Client       any            `toml:"client"`
	SkipVerify   bool           `toml:"skip_verify"`
	OverridePath bool           `toml:"override_path"`
	Header       map[string]any `toml:"header"`
}

// containerd lists the places that a hosts.toml names, mirrors in the order of the file.
func (f Files) containerd(domain, repository string) ([]Place, error) {
	for _, dir := range f.Certs {
		for _, name := range []string{domain, strings.Replace(domain, ":", "_", 1) + "_", "_default"} {
			if name == domain+"_" { // host_port_ is for those with a port
				continue
			}
			file := filepath.Join(dir, name, "hosts.toml")
			body, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, bad(file, "", err)
			}
			return parseHosts(file, body, domain, repository)
		}
	}
	return nil, nil
}

func parseHosts(file string, body []byte, domain, repository string) ([]Place, error) {
	var all struct {
		Server string          `toml:"server"`
		Hosts  map[string]host `toml:"host"`
	}
	var itself host
	if err := errors.Join(toml.Unmarshal(body, &all), toml.Unmarshal(body, &itself)); err != nil {
		return nil, bad(file, "", err)
	}
	order := tables(body, "host")
	var out []Place
	for _, address := range slices.SortedFunc(maps.Keys(all.Hosts), func(a, b string) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a), slices.Index(order, b)), cmp.Compare(a, b))
	}) {
		p, err := all.Hosts[address].place(file, address, repository)
		if err != nil {
			return nil, err
		}
		p.Mirror = true
		out = append(out, p)
	}
	if all.Server == "" {
		all.Server = domain
	}
	p, err := itself.place(file, all.Server, repository)
	if p.Host == "registry-1.docker.io" || p.Host == "index.docker.io" {
		p.Host = "docker.io"
	}
	return append(out, p), err
}

// tables lists the tables below one, in the order in which a file names them first.
func tables(body []byte, below string) (out []string) {
	p := unstable.Parser{}
	for p.Reset(body); p.NextExpression(); {
		if e := p.Expression(); e.Kind == unstable.Table {
			key := e.Key()
			if key.Next() && string(key.Node().Data) == below && key.Next() {
				out = append(out, string(key.Node().Data))
			}
		}
	}
	return out
}

func (h host) place(file, address, repository string) (Place, error) {
	wrong := func(err error) (Place, error) { return Place{}, bad(file, fmt.Sprintf("host %q", address), err) }
	u, err := url.Parse(address)
	if err != nil || !strings.Contains(address, "://") {
		u, err = url.Parse("https://" + address)
	}
	if err != nil {
		return wrong(err)
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return wrong(errors.New("it is not [http[s]://]HOST[:PORT][/PATH]"))
	}
	p := Place{Host: withPort(u), Path: path.Clean("/" + u.Path), Repository: repository, Plain: u.Scheme == "http", Unverified: h.SkipVerify, Header: http.Header{}}
	if !h.OverridePath && !strings.HasSuffix(p.Path, "/v2") {
		p.Path = path.Join(p.Path, "/v2")
	}
	p.Pull, p.Resolve, p.Push = h.capabilities()
	for _, c := range h.Capabilities {
		if !slices.Contains([]string{"pull", "resolve", "push", "referrers"}, c) {
			return wrong(fmt.Errorf("no capability is called %q", c))
		}
	}
	if p.CAs, err = texts(h.CA); err != nil {
		return wrong(fmt.Errorf("ca: %w", err))
	}
	if p.Pairs, err = pairs(h.Client); err != nil {
		return wrong(fmt.Errorf("client: %w", err))
	}
	inFolder := func(name *string) {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(filepath.Dir(file), *name)
		}
	}
	for i := range p.CAs {
		inFolder(&p.CAs[i])
	}
	for i := range p.Pairs {
		inFolder(&p.Pairs[i][0])
		inFolder(&p.Pairs[i][1])
	}
	for key, value := range h.Header {
		if p.Header[http.CanonicalHeaderKey(key)], err = texts(value); err != nil {
			return wrong(fmt.Errorf("header %s: %w", key, err))
		}
	}
	return p, nil
}

func (h host) capabilities() (pull, resolve, push bool) {
	all := len(h.Capabilities) == 0
	has := func(c string) bool { return all || slices.Contains(h.Capabilities, c) }
	return has("pull"), has("resolve"), has("push")
}

// withPort is the host of a URL, with the port that its scheme means when it could be taken for a folder otherwise.
func withPort(u *url.URL) string {
	switch {
	case u.Port() != "" || strings.ContainsAny(u.Host, ".") && u.Scheme == "https":
		return u.Host
	case u.Scheme == "http":
		return u.Host + ":80"
	}
	return u.Host + ":443"
}

var errTexts = errors.New("want a text, or a list of texts")

// texts reads a text or a list of texts.
func texts(v any) (out []string, err error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		for _, one := range v {
			text, ok := one.(string)
			if !ok {
				return nil, errTexts
			}
			out = append(out, text)
		}
		return out, nil
	}
	return nil, errTexts
}

// pairs reads a file, a list of files, or a list of pairs of them: a certificate, and its key if that is elsewhere.
func pairs(v any) (out [][2]string, err error) {
	if text, ok := v.(string); ok {
		return [][2]string{{text, text}}, nil
	}
	list, ok := v.([]any)
	if !ok && v != nil {
		return nil, errTexts
	}
	for _, one := range list {
		files, err := texts(one)
		switch {
		case err != nil:
			return nil, err
		case len(files) == 1 || len(files) == 2 && files[1] == "":
			out = append(out, [2]string{files[0], files[0]})
		case len(files) == 2:
			out = append(out, [2]string{files[0], files[1]})
		default:
			return nil, errors.New("want a certificate, and its key")
		}
	}
	return out, nil
}
