//go:build linux

package network

import (
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/berth-containers/berth/internal/errs"
)

// LostLinks lists the outer ends of veth pairs on this store's bridges that no container has, of those whose ids begin
// with the digits in their names. has is asked for the eight digits.
func (s *Store) LostLinks(has func(digits string) bool) ([]string, error) {
	networks, err := s.List()
	if err != nil {
		return nil, err
	}
	bridges := map[string]bool{}
	for _, n := range networks {
		bridges[n.Bridge] = true
	}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, errs.Wrap("list links", err)
	}
	ours := map[int]bool{} // by their numbers
	for _, l := range links {
		if a := l.Attrs(); l.Type() == "bridge" && bridges[a.Name] {
			ours[a.Index] = true
		}
	}
	var out []string
	for _, l := range links {
		digits, ok := strings.CutPrefix(l.Attrs().Name, "veth")
		if ok && ours[l.Attrs().MasterIndex] && len(digits) > 8 && digits[8] == '-' && !has(digits[:8]) {
			out = append(out, l.Attrs().Name)
		}
	}
	return out, nil
}

// Unplug removes an outer end, and with it the inner one.
func (s *Store) Unplug(link string) { unplug(link) }
