package hosts

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// daemon is what docker's daemon.json says of registries.
type daemon struct {
	Mirrors  []string `json:"registry-mirrors"`
	Insecure []string `json:"insecure-registries"`
	file     string
}

func (f Files) docker() (d daemon, err error) {
	d.file = f.Daemon
	body, err := os.ReadFile(f.Daemon)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(body, &d)
	}
	if err != nil {
		return d, bad(f.Daemon, "", err)
	}
	return d, nil
}

func (d daemon) mirrors(repository string) (out []Place, err error) {
	for _, address := range d.Mirrors {
		p, err := host{Capabilities: []string{"pull", "resolve"}}.place(d.file, address, repository)
		if err != nil {
			return nil, err
		}
		p.Mirror = true
		out = append(out, p)
	}
	return out, nil
}

// certificates adds the authorities (*.crt) and client certificates (*.cert, with the key beside) of a host.
func (f Files) certificates(p *Place) error {
	for _, folder := range f.Certs {
		dir := filepath.Join(folder, p.Host)
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return bad(dir, "", err)
		}
		for _, e := range entries {
			switch file := filepath.Join(dir, e.Name()); filepath.Ext(file) {
			case ".crt":
				p.CAs = append(p.CAs, file)
			case ".cert":
				p.Pairs = append(p.Pairs, [2]string{file, strings.TrimSuffix(file, ".cert") + ".key"})
			}
		}
	}
	return nil
}
