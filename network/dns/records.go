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

// Entry is what a container is known by in a network.
type Entry struct {
	Network, Container string // ids
	Names              []string
	Host               string // for questions who has an address
	Addresses          []netip.Addr
}

// Files are what [Records.Add] makes of an entry. Whoever removes one also removes its folder, if it was the last one in it:
// others may have the same name.
func (r Records) Files(e Entry) (files []string) {
	_ = r.each(e, func(file, _ string) error {
		files = append(files, file)
		return nil
	})
	return files
}

// Add makes an entry known.
func (r Records) Add(e Entry) error {
	return r.each(e, func(file, text string) error {
		for try := 0; ; try++ {
			err := os.MkdirAll(filepath.Dir(file), 0o700)
			if err == nil {
				err = atomicfile.Write(file, []byte(text), 0o600, atomicfile.Fast)
			}
			// The last other holder of the name may remove the folder between the two.
			if err == nil || !os.IsNotExist(err) || try > 100 {
				return err
			}
		}
	})
}

// each calls do with the file of each name of an entry, and what is to be in it.
func (r Records) each(e Entry, do func(file, text string) error) error {
	text := make([]string, len(e.Addresses))
	for i, a := range e.Addresses {
		text[i] = a.String()
	}
	file := func(name string) string { return filepath.Join(string(r), e.Network, name, e.Container) }
	for _, name := range e.Names {
		if name, ok := Fold(name); ok {
			if err := do(file(name), strings.Join(text, " ")); err != nil {
				return err
			}
		}
	}
	for _, a := range e.Addresses {
		if err := do(file(reverseName(a)), e.Host); err != nil {
			return err
		}
	}
	return nil
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

// Alias lets a container alone know a name of a network by another name. It is a link to the name's folder: whoever has that
// name, now or later, is found.
func (r Records) Alias(container, alias, network, name string) error {
	alias, ok := Fold(alias)
	name, ok2 := Fold(name)
	if !ok || !ok2 {
		return nil
	}
	dir := r.aliases(container)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	link := filepath.Join(dir, alias)
	_ = os.Remove(link) // of a start that was killed
	return os.Symlink(filepath.Join("..", network, name), link)
}

func (r Records) aliases(container string) string { return filepath.Join(string(r), container) }

// DropAliases forgets a container's aliases of names in a network; "" is every network.
func (r Records) DropAliases(container, network string) {
	dir := r.aliases(container)
	if network == "" {
		_ = os.RemoveAll(dir)
		return
	}
	links, _ := listing.Folder(dir)
	for _, l := range links {
		link := filepath.Join(dir, l.Name())
		if to, err := os.Readlink(link); err == nil && filepath.Dir(to) == filepath.Join("..", network) {
			_ = os.Remove(link)
		}
	}
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
