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
)

// Networks of the drivers macvlan and ipvlan are the host's own LAN: a container's link lies on one of the host's, and no
// bridge, address translation or firewall of ours is between. Other hosts reach the container at its own address; this
// host does not, the kernel keeps the two apart.

// Options of such networks.
const (
	optParent = "parent" // link of the host
	optMode   = "macvlan_mode"
	optIPMode = "ipvlan_mode"
)

var macvlanModes = map[string]netlink.MacvlanMode{"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE,
	"vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU}

var ipvlanModes = map[string]netlink.IPVlanMode{"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S}

func (n *Network) onLAN() bool { return n.Driver == DriverMacvlan || n.Driver == DriverIPvlan }

// prepareLAN checks a network on a link of the host, by making one such link for a moment.
func (n *Network) prepareLAN() error {
	if len(n.Subnets) == 0 {
		return errs.Text(errs.Invalid, "a network of the driver "+n.Driver+" needs a subnet").WithHint("--subnet, that of the LAN, with an --ip-range of it that nobody else gives out")
	}
	if n.Internal {
		return errs.Text(errs.Invalid, "a network of the driver "+n.Driver+" cannot be internal: no firewall of this host is between it and the LAN")
	}
	parent, err := n.parent()
	if err != nil {
		return err
	}
	if n.MTU == 0 {
		n.MTU = parent.Attrs().MTU
	} else if n.MTU > parent.Attrs().MTU {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid MTU %d: %s carries %d", n.MTU, parent.Attrs().Name, parent.Attrs().MTU))
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "try"+randomMAC().String()[9:11]+randomMAC().String()[12:14], parent.Attrs().Index
	link, err := n.linkOn(attrs)
	if err != nil {
		return err
	}
	if err := n.supported(netlink.LinkAdd(link)); err != nil {
		return err
	}
	_ = netlink.LinkDel(link)
	// The host's own addresses in the LAN are given to no container.
	own, err := netlink.AddrList(parent, netlink.FAMILY_ALL)
	if err != nil {
		return errs.Wrap("list addresses of "+parent.Attrs().Name, err)
	}
	for _, o := range own {
		a, _ := netip.AddrFromSlice(o.IP)
		for i, sub := range n.Subnets {
			if a = a.Unmap(); sub.Subnet.Contains(a) && a != sub.Gateway {
				if n.Subnets[i].Aux == nil {
					n.Subnets[i].Aux = map[string]netip.Addr{}
				}
				n.Subnets[i].Aux["host-"+a.String()] = a
			}
		}
	}
	return nil
}

func (n *Network) parent() (netlink.Link, error) {
	name := n.Options[optParent]
	if name == "" {
		return nil, errs.Text(errs.Invalid, "a network of the driver "+n.Driver+" needs a link of this host").WithHint("-o parent=LINK; `ip link` lists them")
	}
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, errs.New(errs.Invalid, "find parent "+name, err)
	}
	return l, nil
}

// linkOn describes a container's link.
func (n *Network) linkOn(attrs netlink.LinkAttrs) (netlink.Link, error) {
	if n.Driver == DriverMacvlan {
		mode, ok := macvlanModes[n.Options[optMode]]
		if !ok {
			return nil, errs.Text(errs.Invalid, "invalid macvlan_mode "+n.Options[optMode]+": want bridge, private, vepa or passthru")
		}
		return &netlink.Macvlan{LinkAttrs: attrs, Mode: mode}, nil
	}
	mode, ok := ipvlanModes[n.Options[optIPMode]]
	if !ok {
		return nil, errs.Text(errs.Invalid, "invalid ipvlan_mode "+n.Options[optIPMode]+": want l2, l3 or l3s")
	}
	return &netlink.IPVlan{LinkAttrs: attrs, Mode: mode}, nil
}

func (n *Network) supported(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) {
		return errs.Text(errs.Unsupported, fmt.Sprintf("make network %s: this kernel has no %s", n.Name, n.Driver))
	}
	if errors.Is(err, unix.EBUSY) {
		return errs.New(errs.Conflict, "make "+n.Driver+" link on "+n.Options[optParent], err).WithHint("a link carries those of macvlan, those of ipvlan, or a bridge, and only one of these kinds")
	}
	return errs.Wrap("make "+n.Driver+" link on "+n.Options[optParent], err)
}

// plugLAN makes an endpoint's link, in the container's namespace from the first moment.
func plugLAN(e *Endpoint, n *Network, ns *os.File) error {
	parent, err := n.parent()
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.MTU, attrs.Namespace = e.Interface, parent.Attrs().Index, n.MTU, netlink.NsFd(int(ns.Fd()))
	if n.Driver == DriverMacvlan {
		if attrs.HardwareAddr, err = net.ParseMAC(e.MAC); err != nil {
			return errs.New(errs.Invalid, "invalid MAC address "+e.MAC, nil)
		}
	}
	link, err := n.linkOn(attrs)
	if err != nil {
		return err
	}
	err = trace.Step("link add "+n.Driver, "the container is a host of the LAN", "dev", e.Interface, "link", parent.Attrs().Name).
		Do(func() error { return netlink.LinkAdd(link) })
	if err := n.supported(err); err != nil {
		return err
	}
	return inside(ns, func() error { return e.configure(n) })
}
