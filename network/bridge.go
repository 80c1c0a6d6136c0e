//go:build linux

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/nft"
)

// ensureBridge returns the network's bridge and makes it when it is missing. The common case, a bridge that is up,
// costs one netlink request and no lock.
func (s *Store) ensureBridge(n *Network) (netlink.Link, error) {
	if l, err := netlink.LinkByName(n.Bridge); err == nil && l.Attrs().Flags&net.FlagUp != 0 {
		if n.Driver == DriverOverlay {
			return l, s.reach(n)
		}
		return l, nil
	}
	lock, err := s.lockNetwork(n)
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	l, err := netlink.LinkByName(n.Bridge)
	if err != nil {
		if l, err = makeBridge(n); err != nil {
			return nil, err
		}
	}
	if l.Type() != "bridge" {
		return nil, errs.Text(errs.Conflict, fmt.Sprintf("make bridge %s: a %s of that name is there", n.Bridge, l.Type()))
	}
	for _, step := range []func(*Network, netlink.Link) error{addressBridge, tuneBridge, s.forwardPackets, s.joinHosts} {
		if err := step(n, l); err != nil {
			return nil, err
		}
	}
	if err := s.openFirewall(n); err != nil {
		return nil, err
	}
	if _, err := standBeside(); err != nil {
		return nil, err
	}
	// Up is last: it is what tells everybody else that the bridge is complete.
	err = trace.Step("link set up", "the bridge carries packets from here on", "dev", n.Bridge).
		Do(func() error { return netlink.LinkSetUp(l) })
	return l, errs.Wrap("set bridge "+n.Bridge+" up", err)
}

func makeBridge(n *Network) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = n.Bridge, n.MTU
	// A random address of our own stays; the kernel's choice would change with every port that joins or leaves.
	attrs.HardwareAddr = randomMAC()
	br := &netlink.Bridge{LinkAttrs: attrs}
	err := trace.Step("link add bridge", "a switch in the kernel that the network's containers plug into", "dev", n.Bridge, "mtu", n.MTU).
		Do(func() error { return netlink.LinkAdd(br) })
	if err != nil {
		return nil, errs.Wrap("make bridge "+n.Bridge, err)
	}
	_ = netlink.LinkSetAlias(br, "berth network "+n.Name)
	return br, nil
}

func addressBridge(n *Network, l netlink.Link) error {
	for _, sub := range n.Subnets {
		a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(sub.Gateway, sub.Subnet.Bits())), Flags: unix.IFA_F_NODAD}
		err := trace.Step("addr add", "the containers' gateway is the host", "addr", a.IPNet, "dev", n.Bridge).
			Do(func() error { return netlink.AddrReplace(l, a) })
		if err != nil {
			return errs.Wrap("set address "+a.IPNet.String()+" on "+n.Bridge, err)
		}
	}
	return nil
}

// tuneBridge sets what the bridge must not do: believe router advertisements of a container (CVE-2020-13401), speak
// IPv6 on a network without it (CVE-2024-32473). route_localnet lets a port published on this host be reached through
// 127.0.0.1; the firewall drops 127.0.0.0/8 that comes from anywhere but lo (CVE-2020-8558).
func tuneBridge(n *Network, _ netlink.Link) error {
	v6 := "1"
	if n.IPv6() {
		v6 = "0"
	}
	for _, s := range []struct{ name, value, why string }{
		{"ipv6/conf/" + n.Bridge + "/accept_ra", "0", "a container is no router of this host (CVE-2020-13401)"},
		{"ipv6/conf/" + n.Bridge + "/disable_ipv6", v6, "IPv6 only where it was asked for (CVE-2024-32473)"},
		{"ipv4/conf/" + n.Bridge + "/route_localnet", "1", "published ports are reached through 127.0.0.1 too"},
	} {
		if err := setSysctl(s.name, s.value, s.why); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// forwardPackets makes the host route between bridges and its own links. If it did not route before, the firewall is told
// to forward nothing else: to run a container must not make a router of a host.
func (s *Store) forwardPackets(n *Network, _ netlink.Link) error {
	for _, f := range []struct {
		family byte
		name   string
		used   bool
	}{{unix.NFPROTO_IPV4, "ipv4/ip_forward", true}, {unix.NFPROTO_IPV6, "ipv6/conf/all/forwarding", n.IPv6()}} {
		if b, err := os.ReadFile("/proc/sys/net/" + f.name); !f.used || err == nil && string(b) == "1\n" {
			continue
		}
		// The file and the rule come first: there is no moment in which the host routes for strangers.
		if err := os.WriteFile(s.guardFile(f.family), nil, 0o600); err != nil {
			return errs.Wrap("remember that this host was no router", err)
		}
		if err := s.add("this host was no router before, and is none for others", []nft.Element{{Set: setGuard, Key: []byte{f.family}}}); err != nil {
			return err
		}
		if err := setSysctl(f.name, "1", "the host routes packets of containers"); err != nil {
			return err
		}
	}
	return nil
}

// setSysctl writes /proc/sys/net/NAME of the calling thread's network namespace, when it has another value.
func setSysctl(name, value, why string) error {
	path := "/proc/sys/net/" + name
	old, err := os.ReadFile(path)
	if err == nil && len(old) > 0 && string(old[:len(old)-1]) == value {
		return nil
	}
	if err != nil {
		return errs.Wrap("read "+path, err)
	}
	err = trace.Step("sysctl", why, "name", "net/"+name, "value", value).
		Do(func() error { return os.WriteFile(path, []byte(value), 0) })
	return errs.Wrap("set "+path+" to "+value, err)
}

// removeBridge deletes the network's bridge and its elements of the firewall. The caller holds the network's lock.
func (s *Store) removeBridge(n *Network) error {
	s.closeFirewall(n)
	if n.Driver == DriverOverlay {
		unplug(n.tunnel())
	}
	l, err := netlink.LinkByName(n.Bridge)
	if err != nil {
		return nil // never made, or gone with a reboot
	}
	err = trace.Step("link del", "the network is gone", "dev", n.Bridge).Do(func() error { return netlink.LinkDel(l) })
	return errs.Wrap("delete bridge "+n.Bridge, err)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
