//go:build linux

package network

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/nft"
)

// Publish makes further ports of a running container reachable, by the network that it is in first. It returns the ports
// with the numbers that were chosen, and what undoes it. That nobody else has a port is checked now; unlike those of a
// start, no socket keeps a program of the host from binding it later, which then gets no packets.
func (s *Store) Publish(container string, ports []Port) ([]Port, *Undo, error) {
	e, err := s.firstOf(container)
	if err != nil {
		return nil, nil, err
	}
	more := *e
	more.Ports = slices.Clone(e.Ports)
	var held Attachment
	defer func() {
		for _, f := range held.Held {
			f.Close()
		}
	}()
	for _, p := range ports {
		if err := s.publish(&held, &more, p); err != nil {
			return nil, nil, err
		}
	}
	elements := more.elements()[len(e.elements()):] // they come in the order of ports
	undo := new(Undo)
	for _, el := range elements {
		undo.Batches = append(undo.Batches, nft.Delete(tableName, []nft.Element{el}))
	}
	if err := s.record(&more); err != nil { // before the firewall: who repairs it goes by the record
		return nil, nil, err
	}
	err = s.add("further published ports lead to the container", elements)
	if errors.Is(err, unix.EEXIST) {
		err = errs.Text(errs.Conflict, fmt.Sprintf("publish ports %v: port is already allocated", ports)).WithHint("another container publishes it; see `berth ps`")
	}
	if err != nil {
		return nil, nil, errors.Join(err, s.record(e))
	}
	return more.Ports[len(e.Ports):], undo, nil
}

// Unpublish closes published ports of a running container. Their numbers stay reserved for it until it ends.
func (s *Store) Unpublish(container string, closes func(Port) bool) error {
	e, err := s.firstOf(container)
	if err != nil {
		return err
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
		return err
	}
	none := *e
	none.Ports = nil
	for _, el := range gone.elements()[len(none.elements()):] {
		err := trace.Step("nft delete element", "the port is published no more", "set", el.Set).Do(func() error { return nft.Send(nft.Delete(tableName, []nft.Element{el})) })
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return errs.Wrap("close port", err)
		}
	}
	return nil
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

func (s *Store) record(e *Endpoint) error {
	file := filepath.Join(s.endpointDir(e.Container), e.Network+".json")
	return errs.Wrap("record endpoint", atomicfile.WriteJSON(file, e, atomicfile.Fast))
}
