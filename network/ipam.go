//go:build linux

package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
)

// Pools that subnets of new networks are cut from: away from Docker's 172.17.0.0/16 and podman's 10.88.0.0/16, so that
// all three live on one host.
var (
	defaultNet = netip.MustParsePrefix("10.210.0.0/20") // the default network: room for 4,000 containers
	userPool   = netip.MustParsePrefix("10.211.0.0/16") // user networks: 256 of 254 addresses
	secondPool = netip.MustParsePrefix("192.168.128.0/17")
)

const userBits = 24

// route is one thing on this host that a new subnet must not overlap.
type route struct {
	prefix netip.Prefix
	what   string
}

// chooseSubnets completes the subnets a user asked for, or finds a free one, and refuses what overlaps a network of
// ours or a real route of the host. Default routes are no obstacle.
func (s *Store) chooseSubnets(n Network) ([]Subnet, error) {
	taken, err := s.taken(n.onLAN())
	if err != nil {
		return nil, err
	}
	if !n.NoIPv4 && !n.IPv4() && (n.Driver == DriverBridge || n.Driver == "") {
		p, err := freeSubnet(n.Name, taken)
		if err != nil {
			return nil, err
		}
		n.Subnets = append([]Subnet{{Subnet: p}}, n.Subnets...)
	}
	if len(n.Subnets) == 0 {
		return nil, errs.Text(errs.Invalid, "IPv4 or IPv6 must be enabled")
	}
	out := make([]Subnet, len(n.Subnets))
	for i, sub := range n.Subnets {
		if sub, err = sub.complete(); err != nil {
			return nil, err
		}
		if r, ok := overlap(sub.Subnet, taken); ok {
			return nil, errs.Text(errs.Permission, fmt.Sprintf("invalid pool request: Pool overlaps with other one on this address space: %s is in use by %s", sub.Subnet, r.what)).
				WithHint("choose another --subnet; `ip route` shows what is taken")
		}
		out[i] = sub
		taken = append(taken, route{sub.Subnet, "another subnet of this network"})
	}
	return out, nil
}

// complete checks one subnet and gives it a gateway: the first address.
func (sub Subnet) complete() (Subnet, error) {
	p := sub.Subnet
	if !p.IsValid() {
		return sub, errs.Text(errs.Invalid, "every ip-range or gateway must have a corresponding subnet")
	}
	if p != p.Masked() {
		return sub, errs.Text(errs.Invalid, fmt.Sprintf("invalid subnet %s: it should be %s", p, p.Masked()))
	}
	if size := p.Addr().BitLen() - p.Bits(); size < 2 {
		return sub, errs.Text(errs.Invalid, fmt.Sprintf("invalid subnet %s: it has no room for a gateway and a container", p))
	}
	if a := p.Addr(); a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsLinkLocalUnicast() {
		return sub, errs.Text(errs.Invalid, fmt.Sprintf("invalid subnet %s: not a range for hosts", p))
	}
	if !sub.Gateway.IsValid() {
		sub.Gateway = p.Addr().Next()
	}
	if sub.IPRange.IsValid() && (sub.IPRange != sub.IPRange.Masked() || !p.Contains(sub.IPRange.Addr()) || sub.IPRange.Bits() < p.Bits()) {
		return sub, errs.Text(errs.Invalid, fmt.Sprintf("invalid ip-range %s: not inside the subnet %s", sub.IPRange, p))
	}
	if !p.Contains(sub.Gateway) {
		return sub, errs.Text(errs.Invalid, fmt.Sprintf("no matching subnet for gateway %s", sub.Gateway))
	}
	for name, a := range sub.Aux {
		if !p.Contains(a) {
			return sub, errs.Text(errs.Invalid, fmt.Sprintf("no matching subnet for aux-address %s=%s", name, a))
		}
	}
	return sub, nil
}

// taken lists the subnets of our networks and, unless only those are asked for, the host's routes but the default ones.
func (s *Store) taken(ours bool) ([]route, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var out []route
	bridges := map[string]bool{}
	for _, n := range all {
		bridges[n.Bridge] = true
		for _, sub := range n.Subnets {
			out = append(out, route{sub.Subnet, "network " + n.Name})
		}
	}
	if ours {
		return out, nil
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, errs.Wrap("list routes", err)
	}
	names := map[int]string{}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if !ok || bits == 0 || a.IsLinkLocalUnicast() || a.IsMulticast() {
			continue
		}
		if names[r.LinkIndex] == "" {
			if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
				names[r.LinkIndex] = l.Attrs().Name
			}
		}
		if dev := names[r.LinkIndex]; !bridges[dev] {
			p := netip.PrefixFrom(a.Unmap(), bits)
			out = append(out, route{p, "the route to " + p.String() + " dev " + dev})
		}
	}
	return out, nil
}

func overlap(p netip.Prefix, taken []route) (route, bool) {
	for _, t := range taken {
		if t.prefix.Overlaps(p) {
			return t, true
		}
	}
	return route{}, false
}

// freeSubnet finds the first free range for a network without a wish.
func freeSubnet(name string, taken []route) (netip.Prefix, error) {
	if _, used := overlap(defaultNet, taken); name == DefaultName && !used {
		return defaultNet, nil
	}
	var way string
	for _, pool := range []netip.Prefix{userPool, secondPool} {
		base := binary.BigEndian.Uint32(pool.Addr().AsSlice())
		for i := range uint32(1) << (userBits - pool.Bits()) {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], base+i<<(32-userBits))
			p := netip.PrefixFrom(netip.AddrFrom4(b), userBits)
			r, used := overlap(p, taken)
			if !used {
				return p, nil
			}
			if r.prefix.Bits() < userBits {
				way = r.what
			}
		}
	}
	e := errs.Text(errs.Conflict, fmt.Sprintf("all predefined address pools have been fully subnetted (%s, %s)", userPool, secondPool))
	if way != "" {
		return netip.Prefix{}, e.WithHint("in the way: " + way + "; choose a --subnet yourself")
	}
	return netip.Prefix{}, e.WithHint("remove unused networks (`berth network prune`) or choose a --subnet yourself")
}

func (s *Store) leaseDir(n *Network) string { return filepath.Join(s.state, "ipam", n.ID) }

// lease takes an address of a subnet for a container: the wanted one, or the next after the one given last, so that an
// address is not used again at once. The lease is a file named as the address that holds the container's id; making it
// with O_EXCL is what makes it unique.
func (s *Store) lease(n *Network, sub Subnet, want netip.Addr, owner string) (netip.Addr, error) {
	dir := s.leaseDir(n)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return netip.Addr{}, errs.Wrap("lease address", err)
	}
	if want.IsValid() {
		if !sub.Subnet.Contains(want) || !sub.usable(want) {
			return want, errs.Text(errs.Invalid, fmt.Sprintf("invalid address %s: not a free host address of %s", want, sub.Subnet))
		}
		ok, err := s.take(dir, want, owner)
		if err == nil && !ok {
			err = errs.Text(errs.Conflict, "Address already in use: "+want.String())
		}
		return want, err
	}
	pool := sub.Subnet
	if sub.IPRange.IsValid() {
		pool = sub.IPRange
	}
	hint := filepath.Join(dir, "last-"+strings.ReplaceAll(pool.Addr().String(), ":", "_"))
	at := pool.Addr()
	if b, err := os.ReadFile(hint); err == nil {
		if a, err := netip.ParseAddr(string(b)); err == nil && pool.Contains(a) {
			at = a
		}
	}
	for start, wrapped := at, false; ; {
		if at = at.Next(); !pool.Contains(at) {
			at, wrapped = pool.Addr(), true
		}
		if sub.usable(at) {
			ok, err := s.take(dir, at, owner)
			if err != nil {
				return at, err
			}
			if ok {
				// Only a hint: two writers at once cost a few tries, never a double lease.
				_ = os.WriteFile(hint, []byte(at.String()), 0o600)
				return at, nil
			}
		}
		if wrapped && at.Compare(start) >= 0 {
			return at, errs.Text(errs.Conflict, fmt.Sprintf("no available IPv%d addresses on this network's address pools: %s (%s)", ipVersion(at), n.Name, pool))
		}
	}
}

// Usage counts a subnet's addresses: those that have an owner, the bridge and auxiliary ones included, and those that
// can still be given to containers.
func (s *Store) Usage(n *Network, sub Subnet) (used, free uint64, err error) {
	pool := sub.Subnet
	if sub.IPRange.IsValid() {
		pool = sub.IPRange
	}
	used = uint64(len(sub.Aux)) + 1
	es, err := os.ReadDir(s.leaseDir(n))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, errs.Wrap("list leases", err)
	}
	inPool := uint64(0)
	for _, e := range es {
		if a, err := netip.ParseAddr(e.Name()); err == nil && sub.Subnet.Contains(a) {
			used++
			if pool.Contains(a) {
				inPool++
			}
		}
	}
	size := uint64(math.MaxUint64)
	if bits := pool.Addr().BitLen() - pool.Bits(); bits < 64 {
		size = 1 << bits
	}
	for _, a := range append(slices.Collect(maps.Values(sub.Aux)), sub.Gateway, sub.Subnet.Addr(), last(sub.Subnet)) {
		if pool.Contains(a) {
			size--
		}
	}
	return used, size - min(inPool, size), nil
}

// usable tells whether a container may have an address: not the gateway, an auxiliary one, the network's or broadcast's.
func (sub Subnet) usable(a netip.Addr) bool {
	if a == sub.Gateway || a == sub.Subnet.Addr() || a.Is4() && a == last(sub.Subnet) {
		return false
	}
	for _, x := range sub.Aux {
		if a == x {
			return false
		}
	}
	return true
}

// take makes one lease file; false when somebody has it. A lease whose owner is no container any more is taken over.
func (s *Store) take(dir string, a netip.Addr, owner string) (bool, error) {
	path := filepath.Join(dir, a.String())
	for {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_, err = f.WriteString(owner)
			if e := f.Close(); err == nil {
				err = e
			}
			return true, errs.Wrap("lease address "+a.String(), err)
		}
		if !errors.Is(err, fs.ErrExist) {
			return false, errs.Wrap("lease address "+a.String(), err)
		}
		holder, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		// An empty file belongs to somebody between open and write.
		if err != nil || len(holder) == 0 || s.alive(string(holder)) {
			return false, nil
		}
		if err := s.reclaim(path, string(holder)); err != nil {
			return false, err
		}
	}
}

// reclaim ends what a container left that is gone. The lock and the second look keep two finders from removing a lease
// that one of them has taken meanwhile.
func (s *Store) reclaim(path, holder string) error {
	lock, err := flock.Exclusive(filepath.Join(filepath.Dir(path), ".lock"))
	if err != nil {
		return errs.Wrap("reclaim address", err)
	}
	defer lock.Unlock()
	now, err := os.ReadFile(path)
	if err != nil || string(now) != holder {
		return nil
	}
	s.Detach(holder)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errs.Wrap("reclaim address "+filepath.Base(path), err)
	}
	return nil
}

// alive tells whether a container's state folder is there: it is made before its network and removed after.
func (s *Store) alive(id string) bool {
	_, err := os.Stat(filepath.Join(s.state, "containers", id))
	return err == nil
}

func ipVersion(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// last is the highest address of a range.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
