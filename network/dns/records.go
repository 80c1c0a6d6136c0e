//go:build linux

package dns

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
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
	text := make([]string, len(addrs))
	for i, a := range addrs {
		text[i] = a.String()
	}
	return r.add(network, name, container, strings.Join(text, " "))
}

func (r Records) add(network, name, container, text string) ([]string, error) {
	dir := filepath.Join(string(r), network, name)
	files := []string{filepath.Join(dir, container), dir}
	for try := 0; ; try++ {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			err = atomicfile.Write(files[0], []byte(text), 0o600, atomicfile.Fast)
		}
		// The last other holder of the name may remove the folder between the two.
		if err == nil || !os.IsNotExist(err) || try > 100 {
			return files, err
		}
	}
}

// AddReverse names the host that has an address, as "name.network", and returns the files whose removal takes it back.
func (r Records) AddReverse(network string, a netip.Addr, container, host string) ([]string, error) {
	return r.add(network, reverseName(a), container, host)
}

// reverseName is what a question for an address's host asks for: 4.3.2.1.in-addr.arpa, and its twin of IPv6 (RFC 3596).
func reverseName(a netip.Addr) string {
	b := a.AsSlice()
	var out []byte
	for i := len(b) - 1; i >= 0; i-- {
		if a.Is4() {
			out = append(strconv.AppendUint(out, uint64(b[i]), 10), '.')
		} else {
			out = append(out, digits[b[i]&15], '.', digits[b[i]>>4], '.')
		}
	}
	if a.Is4() {
		return string(out) + "in-addr.arpa"
	}
	return string(out) + "ip6.arpa"
}

const digits = "0123456789abcdef"

// host is the other way round: the name of who has the address of a reverse name; "" when nobody has.
func (r Records) host(networks []string, name string) string {
	for _, text := range r.texts(networks, name) {
		return text
	}
	return ""
}

// Alias lets a container alone know a name of a network by another name, and returns the files whose removal takes it
// back. It is a link to the name's folder: whoever has that name, now or later, is found.
func (r Records) Alias(container, alias, network, name string) ([]string, error) {
	alias, ok := Fold(alias)
	name, ok2 := Fold(name)
	if !ok || !ok2 {
		return nil, nil
	}
	dir := filepath.Join(string(r), container)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	link := filepath.Join(dir, alias)
	_ = os.Remove(link) // of a start that was killed
	return []string{link, dir}, os.Symlink(filepath.Join("..", network, name), link)
}

// Lookup returns the addresses of a name in any of the networks, in random order, and whether the name is known.
func (r Records) Lookup(networks []string, name string) (addrs []netip.Addr, known bool) {
	for _, text := range r.texts(networks, name) {
		for _, f := range strings.Fields(text) {
			if a, err := netip.ParseAddr(f); err == nil {
				addrs, known = append(addrs, a), true
			}
		}
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs, known
}

// Of lists the records that a container has in a network.
func (r Records) Of(network, container string) []string {
	found, _ := filepath.Glob(filepath.Join(string(r), network, "*", container))
	return found
}

// texts are the contents of all records of a name.
func (r Records) texts(networks []string, name string) (out []string) {
	name, ok := Fold(name)
	if !ok {
		return nil
	}
	for _, n := range networks {
		dir := filepath.Join(string(r), n, name)
		es, err := listing.Folder(dir)
		if err != nil {
			continue
		}
		for _, e := range es {
			if b, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil && e.Name()[0] != '.' {
				out = append(out, string(b))
			}
		}
	}
	return out
}
