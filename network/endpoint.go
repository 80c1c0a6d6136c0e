//go:build linux

package network

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/nft"
	"github.com/berth-containers/berth/linux/socket"
)

// Request says what a container wants of one network.
type Request struct {
	Network   string            `json:"network"`
	Container string            `json:"container"` // id
	Name      string            `json:"name"`      // the container's name, for people and for DNS
	Aliases   []string          `json:"aliases,omitempty"`
	IP        netip.Addr        `json:"ip,omitzero"`
	IP6       netip.Addr        `json:"ip6,omitzero"`
	MAC       string            `json:"mac,omitempty"`
	Interface string            `json:"interface,omitempty"` // "" is the next free ethN
	Ports     []Port            `json:"ports,omitempty"`
	LinkLocal []netip.Addr      `json:"linkLocal,omitempty"` // further addresses, which only neighbours reach
	Sysctls   map[string]string `json:"sysctls,omitempty"`   // net.… of the interface, whose name stands there as IFNAME
	Priority  int               `json:"priority,omitempty"`  // the network with the highest one has the default route

	Files func(*Endpoint) []string `json:"-"` // what else goes with the endpoint, and is made after it; nil: nothing
}

// Endpoint is a container's place in a network: the record in endpoints/<container>/<network id>.json.
type Endpoint struct {
	Network       string       `json:"network"` // id
	NetworkName   string       `json:"networkName"`
	Container     string       `json:"container"`
	Name          string       `json:"name"`
	Aliases       []string     `json:"aliases,omitempty"`
	Interface     string       `json:"interface"`     // in the container
	HostInterface string       `json:"hostInterface"` // on the bridge
	Bridge        string       `json:"bridge"`
	MAC           string       `json:"mac"`
	Address       netip.Prefix `json:"address,omitzero"`
	Gateway       netip.Addr   `json:"gateway,omitzero"`
	Address6      netip.Prefix `json:"address6,omitzero"`
	Gateway6      netip.Addr   `json:"gateway6,omitzero"`
	Ports         []Port       `json:"ports,omitempty"`
	LinkLocal     []netip.Addr `json:"linkLocal,omitempty"`
	Priority      int          `json:"priority,omitempty"`
	Internal      bool         `json:"internal,omitempty"` // no way out
	Metric        int          `json:"metric,omitempty"`   // of its default routes; the lowest one wins
	Peers         []netip.Addr `json:"peers,omitempty"`    // other hosts' addresses in an overlay network, where they answer for names
	Files         []string     `json:"files,omitempty"`    // that go with it; their folders, too, when they are empty
	Undo          Undo         `json:"undo"`               // what ends it, but for its link, which goes with the namespace

	sysctls map[string]string // for configure
}

// Undo is what ends an endpoint, prepared so that the container's monitor, which reads it in the record when the container
// has ended, needs to know nothing of networks: files to remove, and batches to send to nftables, each on its own because
// one that is gone already (a flushed firewall) must not keep the others.
type Undo struct {
	Files   []string `json:"files,omitempty"`
	Batches [][]byte `json:"batches,omitempty"`
}

// Attachment is what Attach made for one container.
type Attachment struct {
	Endpoints []Endpoint
	Held      []*os.File // sockets that hold the published host ports; the monitor keeps them open
	leases    []string   // files, for an attachment that fails
}

// Places is the folder of a container's endpoints, a file NETWORK-ID.json each.
func (s *Store) Places(container string) string { return s.endpointDir(container) }

func (s *Store) endpointDir(container string) string {
	return filepath.Join(s.state, "endpoints", container)
}

// Attach puts a container's network namespace into networks. When it fails, nothing of it is left.
func (s *Store) Attach(ns *os.File, requests []Request) (_ *Attachment, err error) {
	a := new(Attachment)
	defer func() {
		if err != nil {
			s.abort(a)
		}
	}()
	ranks := rank(requests)
	for i, r := range requests {
		if r.Interface == "" {
			r.Interface = "eth" + strconv.Itoa(i)
		}
		if err := s.attach(a, ns, r, ranks[i]); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Metrics of default routes: the best one has the kernel's own, which `ip route` does not show; the others wait behind it
// and take over when its network is disconnected.
const (
	bestMetric  = 0
	otherMetric = 2000 // behind the 1024 that the kernel makes of 0 for IPv6
)

// rank gives each request the metric of its default routes: by priority, then in the order given.
func rank(requests []Request) []int {
	order := make([]int, len(requests))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return requests[order[a]].Priority > requests[order[b]].Priority })
	out := make([]int, len(requests))
	for place, i := range order {
		if out[i] = bestMetric; place > 0 {
			out[i] = otherMetric + place
		}
	}
	return out
}

// Join attaches a container that is in networks already to one more. The default route goes to the new network if its
// priority is higher than all others'.
func (s *Store) Join(ns *os.File, r Request) (*Attachment, error) {
	there, err := s.EndpointsOf(r.Container)
	if err != nil {
		return nil, err
	}
	best := Request{Priority: r.Priority}
	var others []Request
	for _, e := range there {
		others = append(others, Request{Priority: e.Priority})
	}
	metric := rank(append(others, best))[len(others)]
	if metric == bestMetric && len(others) > 0 {
		if err := inside(ns, func() error { return demote(there) }); err != nil {
			return nil, err
		}
	}
	a := new(Attachment)
	if err := s.attach(a, ns, r, metric); err != nil {
		s.abort(a)
		return nil, err
	}
	return a, nil
}

// abort takes back a half-made attachment; the veth pairs are deleted because their namespace may live on.
func (s *Store) abort(a *Attachment) {
	for i := range a.Endpoints {
		s.detach(&a.Endpoints[i])
	}
	for _, f := range a.Held {
		f.Close()
	}
	for _, f := range a.leases {
		_ = os.Remove(f)
	}
}

func unplug(name string) {
	if name == "" {
		return // it is in the container's namespace, and goes with it
	}
	if l, err := netlink.LinkByName(name); err == nil {
		_ = trace.Step("link del", "the endpoint is gone", "dev", name).Do(func() error { return netlink.LinkDel(l) })
	}
}

func (s *Store) attach(a *Attachment, ns *os.File, r Request, metric int) error {
	n, err := s.Get(r.Network)
	if err != nil {
		return err
	}
	e := Endpoint{Network: n.ID, NetworkName: n.Name, Container: r.Container, Name: r.Name, Aliases: r.Aliases,
		Interface: r.Interface, Bridge: n.Bridge, MAC: r.MAC, HostInterface: hostInterface(r.Container, r.Interface),
		Internal: n.Internal, LinkLocal: r.LinkLocal, Priority: r.Priority, Metric: metric, sysctls: r.Sysctls}
	if err := checkInterface(r.Interface); err != nil {
		return err
	}
	if e.MAC == "" {
		e.MAC = randomMAC().String()
	} else if m, err := net.ParseMAC(e.MAC); err != nil || len(m) != 6 || m[0]&1 != 0 {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid MAC address %q: want six bytes of one host", e.MAC))
	}
	if err := s.leaseAll(a, &e, n, r); err != nil {
		return err
	}
	for _, p := range r.Ports {
		if err := s.publish(a, &e, p); err != nil {
			return err
		}
	}
	var bridge netlink.Link
	if n.onLAN() {
		if e.HostInterface = ""; len(r.Ports) > 0 {
			return errs.Text(errs.Invalid, "publish ports: a container of the network "+n.Name+" ("+n.Driver+") is reached at its own address")
		}
	} else if bridge, err = s.ensureBridge(n); err != nil {
		return err
	}
	// The record comes before what it names: what a killed engine leaves half-made is found by it (Detach, the monitor).
	if n.Driver == DriverOverlay {
		e.Peers = n.otherGateways()
	}
	if r.Files != nil {
		e.Files = r.Files(&e)
	}
	err = s.record(&e)
	if a.Endpoints = append(a.Endpoints, e); err != nil {
		return err
	}
	if n.onLAN() {
		return plugLAN(&e, n, ns)
	}
	if err := plug(&e, n, bridge, ns); err != nil {
		return err
	}
	return s.admit(n, &e)
}

// record writes an endpoint down, with what ends it.
func (s *Store) record(e *Endpoint) error {
	dir := s.endpointDir(e.Container)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errs.Wrap("record endpoint", err)
	}
	file := filepath.Join(dir, e.Network+".json")
	e.Undo = Undo{Batches: deletions(e.elements()), Files: slices.Concat(e.Files, s.leases(e), []string{file, dir})}
	return errs.Wrap("record endpoint", atomicfile.WriteJSON(file, e, atomicfile.Fast))
}

// leases are the files of an endpoint's addresses.
func (s *Store) leases(e *Endpoint) (files []string) {
	for _, p := range []netip.Prefix{e.Address, e.Address6} {
		if p.IsValid() {
			files = append(files, filepath.Join(s.state, "ipam", e.Network, p.Addr().String()))
		}
	}
	return files
}

// deletions are batches of one element each.
func deletions(es []nft.Element) (out [][]byte) {
	for _, el := range es {
		out = append(out, nft.Delete(tableName, []nft.Element{el}))
	}
	return out
}

// leaseAll takes an address of each subnet of a network, of IPv4 and of IPv6 at most one.
func (s *Store) leaseAll(a *Attachment, e *Endpoint, n *Network, r Request) error {
	for _, sub := range n.Subnets {
		is4 := sub.Subnet.Addr().Is4()
		if is4 && e.Address.IsValid() || !is4 && e.Address6.IsValid() {
			continue
		}
		want := r.IP6
		if is4 {
			want = r.IP
		}
		if want.IsValid() && !sub.Subnet.Contains(want) && len(n.Subnets) > 1 {
			continue
		}
		ip, err := s.lease(n, sub, want, r.Container)
		if err != nil {
			return err
		}
		a.leases = append(a.leases, filepath.Join(s.leaseDir(n), ip.String()))
		if is4 {
			e.Address, e.Gateway = netip.PrefixFrom(ip, sub.Subnet.Bits()), sub.Gateway
		} else {
			e.Address6, e.Gateway6 = netip.PrefixFrom(ip, sub.Subnet.Bits()), sub.Gateway
		}
	}
	if r.IP.IsValid() && e.Address.Addr() != r.IP || r.IP6.IsValid() && e.Address6.Addr() != r.IP6 {
		return errs.Text(errs.Invalid, "no subnet of network "+n.Name+" contains the IP address asked for")
	}
	return nil
}

// hostInterface names the outer end so that `ip link` shows whose it is: veth, eight digits of the id, the inner end's
// number; at most 15 bytes.
func hostInterface(container, inner string) string {
	end := strings.TrimPrefix(inner, "eth")
	if len(end) > 2 {
		sum := fnv.New32a()
		_, _ = sum.Write([]byte(inner))
		end = fmt.Sprintf("%02x", byte(sum.Sum32()))
	}
	return "veth" + container[:min(8, len(container))] + "-" + end
}

// Endpoints lists who is in a network.
func (s *Store) Endpoints(n *Network) ([]Endpoint, error) {
	all, err := s.AllEndpoints(n)
	return slices.DeleteFunc(all, func(e Endpoint) bool { return !s.alive(e.Container) }), err
}

// AllEndpoints lists who is on record in a network, also who is gone and has not been cleaned up.
func (s *Store) AllEndpoints(n *Network) ([]Endpoint, error) {
	names, err := filepath.Glob(filepath.Join(s.state, "endpoints", "*", n.ID+".json"))
	if err != nil {
		return nil, err
	}
	var out []Endpoint
	for _, f := range names {
		var e Endpoint
		if atomicfile.ReadJSON(f, &e) == nil {
			out = append(out, e)
		}
	}
	return out, nil
}

// EndpointsOf lists a container's places in networks.
func (s *Store) EndpointsOf(container string) ([]Endpoint, error) {
	es, err := os.ReadDir(s.endpointDir(container))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.Wrap("list endpoints", err)
	}
	var out []Endpoint
	for _, f := range es {
		var e Endpoint
		if atomicfile.ReadJSON(filepath.Join(s.endpointDir(container), f.Name()), &e) == nil {
			out = append(out, e)
		}
	}
	return out, nil
}

// Hold reserves the published ports of a container once more, for a process that takes over from the one that held
// them. A port that somebody else has taken meanwhile stays with them; the firewall's rule goes first all the same.
func (s *Store) Hold(container string) []*os.File {
	endpoints, _ := s.EndpointsOf(container)
	var held []*os.File
	for _, e := range endpoints {
		for _, p := range e.Ports {
			if files, err := s.reserveAll(&e, &p); err == nil {
				held = append(held, files...)
			}
		}
	}
	return held
}

// Detach removes everything that the records of a container name, whoever left it: links, elements of the firewall,
// leases, the records.
func (s *Store) Detach(container string) {
	ends, _ := s.EndpointsOf(container)
	for i := range ends {
		s.detach(&ends[i])
	}
	_ = os.RemoveAll(s.endpointDir(container))
}

// DetachFrom takes a running container out of one network. It returns which sockets of its monitor have held its ports.
func (s *Store) DetachFrom(container string, n *Network) ([]socket.Bound, error) {
	ends, err := s.EndpointsOf(container)
	if err != nil {
		return nil, err
	}
	for i := range ends {
		if ends[i].Network == n.ID {
			s.detach(&ends[i])
			return bound(&ends[i]), nil
		}
	}
	return nil, errs.Text(errs.NotFound, fmt.Sprintf("container %s is not connected to network %s", short(container), n.Name))
}

// unplugInside removes a link that has no other end on this host, if its namespace is still there.
func (s *Store) unplugInside(e *Endpoint) {
	ns, err := os.Open(filepath.Join(s.state, "netns", e.Container))
	if err != nil {
		return
	}
	defer ns.Close()
	_ = inside(ns, func() error {
		unplug(e.Interface)
		return nil
	})
}

func (s *Store) detach(e *Endpoint) {
	if unplug(e.HostInterface); e.HostInterface == "" {
		s.unplugInside(e)
	}
	_ = nft.SendEach(deletions(e.elements()))
	for _, lease := range s.leases(e) {
		if owner, err := os.ReadFile(lease); err == nil && string(owner) == e.Container {
			_ = os.Remove(lease)
		}
	}
	for _, f := range e.Files {
		_ = os.Remove(f)
		_ = os.Remove(filepath.Dir(f))
	}
	_ = os.Remove(filepath.Join(s.endpointDir(e.Container), e.Network+".json"))
	_ = os.Remove(s.endpointDir(e.Container)) // if it was the last one
}
