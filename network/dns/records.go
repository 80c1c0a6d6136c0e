//go:build linux

package dns

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/listing"
)

// Records is the folder of all names, dns/ below the engine's state folder.
type Records string

// Fold makes a name comparable: lower case, no dot at its end. It is false for what cannot be a file's name or a host's.
func Fold(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || len(name) > 253 || name[0] == '.' || strings.ContainsAny(name, "/\x00") {
		return "", false
	}
	return name, true
}

// Add gives a container's addresses a name in a network and returns the files whose removal takes it back: the record,
// then its folder, which stays while others have the same name.
func (r Records) Add(network, name, container string, addrs []netip.Addr) ([]string, error) {
	name, ok := Fold(name)
	if !ok {
		return nil, nil
	}
	dir := filepath.Join(string(r), network, name)
	text := make([]string, len(addrs))
	for i, a := range addrs {
		text[i] = a.String()
	}
	files := []string{filepath.Join(dir, container), dir}
	for try := 0; ; try++ {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			err = atomicfile.Write(files[0], []byte(strings.Join(text, " ")), 0o600, atomicfile.Fast)
		}
		// The last other holder of the name may remove the folder between the two.
		if err == nil || !os.IsNotExist(err) || try > 100 {
			return files, err
		}
	}
}

// Lookup returns the addresses of a name in any of the networks, in random order, and whether the name is known.
func (r Records) Lookup(networks []string, name string) (addrs []netip.Addr, known bool) {
	name, ok := Fold(name)
	if !ok {
		return nil, false
	}
	for _, n := range networks {
		dir := filepath.Join(string(r), n, name)
		es, err := listing.Folder(dir)
		if err != nil {
			continue
		}
		for _, e := range es {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil || e.Name()[0] == '.' {
				continue
			}
			for _, f := range strings.Fields(string(b)) {
				if a, err := netip.ParseAddr(f); err == nil {
					addrs, known = append(addrs, a), true
				}
			}
		}
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs, known
}
