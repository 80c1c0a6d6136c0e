//go:build linux

package network

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
)

// DefaultName is the network of containers that ask for none; clients know it by this name.
const DefaultName = "bridge"

// Drivers of networks.
const (
	DriverBridge  = "bridge"  // a switch in the kernel, and this host as its router
	DriverOverlay = "overlay" // bridges of several hosts, joined by VXLAN
	DriverMacvlan = "macvlan" // the host's own LAN, with hardware addresses of one's own
	DriverIPvlan  = "ipvlan"  // the host's own LAN, with its hardware address
)

// Subnet is one range of addresses of a network.
type Subnet struct {
	Subnet  netip.Prefix          `json:"Subnet"`
	Gateway netip.Addr            `json:"Gateway"`                      // the bridge's own address
	IPRange netip.Prefix          `json:"IPRange,omitzero"`             // where addresses are taken from; zero: the whole subnet
	Aux     map[string]netip.Addr `json:"AuxiliaryAddresses,omitempty"` // never given to a container
}

// Network is a definition, as kept in networks/<name>/network.json.
type Network struct {
	Name       string            `json:"Name"`
	ID         string            `json:"Id"` // 64 hexadecimal digits
	Created    time.Time         `json:"Created"`
	Driver     string            `json:"Driver"` // Driver…
	Bridge     string            `json:"Bridge"` // name of the Linux bridge, at most 15 bytes
	MTU        int               `json:"MTU"`
	Subnets    []Subnet          `json:"Subnets"`
	NoIPv4     bool              `json:"NoIPv4,omitempty"`     // no subnet of IPv4 is chosen where none is named
	Internal   bool              `json:"Internal,omitempty"`   // no way out, no way in
	Attachable bool              `json:"Attachable,omitempty"` // said for other engines, which do not let everybody in
	NoMasq     bool              `json:"NoMasquerade,omitempty"`
	Options    map[string]string `json:"Options,omitempty"`
	Labels     map[string]string `json:"Labels,omitempty"`
}

// IPv4 reports whether the network has a subnet of IPv4.
func (n *Network) IPv4() bool {
	return slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.Subnet.Addr().Is4() })
}

// IPv6 reports whether the network has a subnet of IPv6.
func (n *Network) IPv6() bool {
	return slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.Subnet.Addr().Is6() })
}

// Store keeps definitions below root, which survives a reboot, and leases and endpoints below state, which does not:
// after a reboot no address is in use.
type Store struct{ root, state string }

// Open makes a store of the engine's two folders. It touches nothing.
func Open(root, state string) *Store { return &Store{root, state} }

func (s *Store) dir(name string) string  { return filepath.Join(s.root, "networks", name) }
func (s *Store) file(name string) string { return filepath.Join(s.dir(name), "network.json") }

// reserved are names that `--network` gives another meaning.
var reserved = [...]string{"host", "none", "container", "ns", "default"}

// CheckName refuses names that Docker refuses, and those with a meaning of their own.
func CheckName(name string) error {
	ok := name != ""
	for i, c := range []byte(name) {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		ok = ok && (alnum || i > 0 && (c == '_' || c == '.' || c == '-'))
	}
	if !ok || len(name) > 128 {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid network name %q: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name))
	}
	for _, r := range reserved {
		if name == r {
			return errs.Text(errs.Permission, "operation is not permitted on predefined "+name+" network")
		}
	}
	return nil
}

// Create checks a definition, fills in what is missing (id, bridge, subnet, gateway) and stores it. The bridge itself
// is made when the first container attaches.
func (s *Store) Create(n Network) (*Network, error) {
	if err := CheckName(n.Name); err != nil {
		return nil, err
	}
	for i := range n.Subnets {
		if p := n.Subnets[i].Subnet; !p.IsValid() || p != p.Masked() {
			_, err := n.Subnets[i].complete()
			return nil, err
		}
	}
	var err error
	switch n.Driver {
	case "", DriverBridge:
		n.Driver = DriverBridge
	case DriverOverlay:
		err = n.prepareOverlay()
	case DriverMacvlan, DriverIPvlan:
		err = n.prepareLAN()
	default:
		err = errs.Text(errs.Invalid, fmt.Sprintf("network driver %q is not known (known: %s, %s, %s, %s)", n.Driver, DriverBridge, DriverOverlay, DriverMacvlan, DriverIPvlan))
	}
	if err != nil {
		return nil, err
	}
	if n.MTU == 0 {
		n.MTU = 1500
	}
	if n.MTU < 68 || n.MTU > 65535 {
		return nil, errs.Text(errs.Invalid, fmt.Sprintf("invalid MTU %d: want 68 to 65535", n.MTU))
	}
	// One creation at a time, because a new subnet must not overlap another's: the only lock over all networks.
	if err := os.MkdirAll(filepath.Join(s.root, "networks"), 0o700); err != nil {
		return nil, errs.Wrap("create network "+n.Name, err)
	}
	lock, err := flock.Exclusive(filepath.Join(s.root, "networks", ".lock"))
	if err != nil {
		return nil, errs.Wrap("create network "+n.Name, err)
	}
	defer lock.Unlock()
	if _, err := os.Stat(s.file(n.Name)); err == nil {
		return nil, errs.Text(errs.Conflict, fmt.Sprintf("network with name %s already exists", n.Name))
	}
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	n.ID, n.Created = hex.EncodeToString(id), time.Now().UTC()
	if n.onLAN() {
		n.Bridge = ""
	} else if n.Bridge == "" {
		n.Bridge = "br-" + n.ID[:12]
	}
	if len(n.Bridge) > 15 || strings.ContainsAny(n.Bridge, "/ \t\n:") {
		return nil, errs.Text(errs.Invalid, fmt.Sprintf("invalid bridge name %q: at most 15 characters, no space, slash or colon", n.Bridge))
	}
	if n.Subnets, err = s.chooseSubnets(n); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.dir(n.Name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, errs.Wrap("create network "+n.Name, err)
	}
	if err := atomicfile.WriteJSON(s.file(n.Name), &n, atomicfile.Durable); err != nil {
		_ = os.Remove(s.dir(n.Name))
		return nil, errs.Wrap("create network "+n.Name, err)
	}
	return &n, nil
}

// Get finds a network by name, id, or unique prefix of an id. The default network comes into being when it is asked for.
func (s *Store) Get(name string) (*Network, error) {
	if name == "default" || name == "" {
		name = DefaultName
	}
	n := new(Network)
	if CheckName(name) == nil {
		if err := atomicfile.ReadJSON(s.file(name), n); err == nil {
			return n, nil
		}
		if name == DefaultName {
			return s.createDefault()
		}
	}
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var found []*Network
	for _, n := range all {
		if n.ID == name {
			return n, nil
		}
		if len(name) > 0 && strings.HasPrefix(n.ID, name) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, errs.Text(errs.NotFound, "network "+name+" not found").WithHint("see `berth network ls`")
	}
	return nil, errs.Text(errs.Invalid, fmt.Sprintf("network %s is ambiguous (%d matches found based on ID prefix)", name, len(found)))
}

// createDefault makes the network "bridge"; of several processes that find it missing one makes it.
func (s *Store) createDefault() (*Network, error) {
	bridge := "berth0"
	if _, err := netlink.LinkByName(bridge); err == nil {
		bridge = "" // another engine's, with other folders: two networks on one bridge would be none
	}
	n, err := s.Create(Network{Name: DefaultName, Bridge: bridge})
	if errs.Is(err, errs.Conflict) {
		n = new(Network)
		err = atomicfile.ReadJSON(s.file(DefaultName), n)
	}
	return n, err
}

// List returns all networks, sorted by name. A damaged definition is left out; it never hides the others.
func (s *Store) List() ([]*Network, error) {
	es, err := os.ReadDir(filepath.Join(s.root, "networks"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errs.Wrap("list networks", err)
	}
	var all []*Network
	for _, e := range es {
		n := new(Network)
		if e.IsDir() && atomicfile.ReadJSON(s.file(e.Name()), n) == nil && n.Name == e.Name() {
			all = append(all, n)
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

// Remove deletes a network that no endpoint uses, with its bridge and its part of the firewall.
func (s *Store) Remove(name string) (*Network, error) {
	n, err := s.Get(name)
	if err != nil {
		return nil, err
	}
	if n.Name == DefaultName {
		return nil, errs.Text(errs.Permission, "bridge is a pre-defined network and cannot be removed")
	}
	lock, err := s.lockNetwork(n)
	if err != nil {
		return nil, err
	}
	defer lock.Remove()
	ends, err := s.Endpoints(n)
	if err != nil {
		return nil, err
	}
	if len(ends) > 0 {
		return nil, errs.Text(errs.Conflict, fmt.Sprintf("error while removing network: network %s has active endpoints (name:%q id:%q)",
			n.Name, ends[0].Name, short(ends[0].Container)))
	}
	if err := s.removeBridge(n); err != nil {
		return nil, err
	}
	_ = os.RemoveAll(s.leaseDir(n))
	if err := os.Remove(s.file(n.Name)); err != nil {
		return nil, errs.Wrap("remove network "+n.Name, err)
	}
	return n, os.RemoveAll(s.dir(n.Name))
}

// lockNetwork guards the bridge's making and removal; attaching to a bridge that is there takes no lock.
func (s *Store) lockNetwork(n *Network) (*flock.Lock, error) {
	if err := os.MkdirAll(filepath.Join(s.state, "networks"), 0o700); err != nil {
		return nil, errs.Wrap("lock network "+n.Name, err)
	}
	l, err := flock.Exclusive(filepath.Join(s.state, "networks", n.ID+".lock"))
	return l, errs.Wrap("lock network "+n.Name, err)
}

func short(id string) string { return id[:min(12, len(id))] }
