//go:build linux

package network

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/nft"
	"github.com/berth-containers/berth/linux/socket"
)

// Publish makes further ports of a running container reachable, by the network that it is in first. It returns the sockets
// that hold them, for the container's monitor.
func (s *Store) Publish(container string, ports []Port) (_ []*os.File, err error) {
	e, err := s.firstOf(container)
	if err != nil {
		return nil, err
	}
	more := *e
	more.Ports = slices.Clone(e.Ports)
	var a Attachment
	defer func() {
		if err != nil {
			for _, f := range a.Held {
				f.Close()
			}
		}
	}()
	for _, p := range ports {
		if err := s.publish(&a, &more, p); err != nil {
			return nil, err
		}
	}
	elements := more.elements()[len(e.elements()):] // they come in the order of ports
	if err := s.record(&more); err != nil {         // before the firewall: who repairs it goes by the record
		return nil, err
	}
	err = s.add("further published ports lead to the container", elements)
	if errors.Is(err, unix.EEXIST) {
		err = errs.Text(errs.Conflict, fmt.Sprintf("publish ports %v: port is already allocated", ports)).WithHint("another container publishes it; see `berth ps`")
	}
	if err != nil {
		return nil, errors.Join(err, s.record(e))
	}
	return a.Held, nil
}

// Unpublish closes published ports of a running container. It returns which sockets of its monitor have held them.
func (s *Store) Unpublish(container string, closes func(Port) bool) (held []socket.Bound, err error) {
	e, err := s.firstOf(container)
	if err != nil {
		return nil, err
	}
	gone := *e
	gone.Ports = nil
	rest := *e
	rest.Ports = nil
	for _, p := range e.Ports {
		if closes(p) {
			gone.Ports = append(gone.Ports, p)
		} else {
			rest.Ports = append(rest.Ports, p)
		}
	}
	if err := s.record(&rest); err != nil {
		return nil, err
	}
	none := *e
	none.Ports = nil
	for _, el := range gone.elements()[len(none.elements()):] {
		err := trace.Step("nft delete element", "the port is published no more", "set", el.Set).Do(func() error { return nft.Send(nft.Delete(tableName, []nft.Element{el})) })
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, errs.Wrap("close port", err)
		}
	}
	return bound(&gone), nil
}

// firstOf is the endpoint that has the published ports: the first interface's.
func (s *Store) firstOf(container string) (*Endpoint, error) {
	ends, err := s.EndpointsOf(container)
	if err != nil {
		return nil, err
	}
	for _, fits := range []func(Endpoint) bool{
		func(e Endpoint) bool { return len(e.Ports) > 0 }, func(e Endpoint) bool { return e.Interface == "eth0" }, func(Endpoint) bool { return true },
	} {
		if i := slices.IndexFunc(ends, fits); i >= 0 {
			return &ends[i], nil
		}
	}
	return nil, errs.Text(errs.Conflict, "the container has no network of its own to publish ports of")
}
