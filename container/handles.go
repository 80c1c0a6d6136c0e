//go:build linux

package container

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
)

// openMounts makes those mounts of the host's files that init cannot make itself, and hands them to it: idmapped ones,
// which need rights over the host's file system, with a user namespace all, because what is root in it may not walk
// to every source, and shared ones, which are peers of the host's mount only when they are taken in its namespace
// (mount_namespaces(7)). They are attached nowhere; init puts them in their places.
func (p *Plan) openMounts(hand func(f *os.File) int) error {
	userns := map[string]*os.File{}
	defer func() {
		for _, f := range userns {
			f.Close()
		}
	}()
	p.Mounts = slices.Clone(p.Mounts)
	for i := range p.Mounts {
		m := &p.Mounts[i]
		if len(m.UIDMaps) == 0 && !p.has("user") && !slices.ContainsFunc(m.Options, func(o string) bool { return mount.Propagation(o)&unix.MS_SHARED != 0 }) {
			continue
		}
		var tree *mount.Tree
		var err error
		switch {
		case m.Type == "bind" && !foreign(m.Source):
			tree, err = p.openBind(m, userns)
		case m.Type == "overlay" && p.has("user"):
			tree, err = p.openOverlay(m, userns)
		default:
			continue
		}
		if err != nil {
			return errs.Wrap("mount "+m.Source+" on "+m.Destination, err)
		}
		m.Handle = hand(tree.File())
	}
	return nil
}

func (p *Plan) openBind(m *Mount, userns map[string]*os.File) (*mount.Tree, error) {
	o, err := mount.ParseOptions(m.Options)
	if err != nil {
		return nil, err
	}
	src, err := o.OpenSource(m.Source)
	if err != nil {
		return nil, errs.New(errs.Invalid, "", err)
	}
	defer src.Close()
	tree, err := mount.Bind(src, o.Recursive)
	if err != nil || len(m.UIDMaps) == 0 {
		return tree, err
	}
	ns, err := mapsOf(m.UIDMaps, m.GIDMaps, userns)
	if err == nil {
		err = tree.IDMap(ns, o.RecIDMap)
	}
	if err != nil {
		tree.Close()
		return nil, err
	}
	return tree, nil
}

// openOverlay makes a union whose files have, for root of the container's user namespace, the owners that are on disk.
func (p *Plan) openOverlay(m *Mount, userns map[string]*os.File) (*mount.Tree, error) {
	ns, err := mapsOf(p.UIDMaps, p.GIDMaps, userns)
	if err != nil {
		return nil, err
	}
	o := mount.OverlayOptions{UserNS: ns, Label: p.MountLabel}
	for _, option := range m.Options {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "lowerdir":
			o.Lowers = strings.Split(value, ":")
		case "upperdir":
			o.Upper = value
		case "workdir":
			o.Work = value
		}
	}
	return mount.Overlay(o)
}

// mapsOf opens a user namespace with id maps, one for all mounts that have the same.
func mapsOf(uids, gids []namespace.IDMap, have map[string]*os.File) (*os.File, error) {
	key := ""
	for _, m := range slices.Concat(uids, []namespace.IDMap{{}}, gids) {
		key += m.String() + " "
	}
	if f := have[key]; f != nil {
		return f, nil
	}
	f, err := namespace.UserNamespace(uids, gids)
	if err == nil {
		have[key] = f
	}
	return f, err
}

// OpenMount makes one of the plan's mounts for a container that runs already: attached nowhere, with its attributes.
func (p *Plan) OpenMount(destination string) (*mount.Tree, error) {
	for i := range p.Mounts {
		m := &p.Mounts[i]
		if m.Destination != destination {
			continue
		}
		o, err := mount.ParseOptions(m.Options)
		if err != nil {
			return nil, err
		}
		if m.Type != "bind" {
			return mount.Filesystem(m.Type, m.Type, o)
		}
		tree, err := p.openBind(m, map[string]*os.File{})
		if err != nil {
			return nil, errs.Wrap("mount "+m.Source+" on "+m.Destination, err)
		}
		if err := tree.SetAttr(o); err != nil {
			tree.Close()
			return nil, err
		}
		return tree, nil
	}
	return nil, errs.Text(errs.NotFound, "no mount on "+destination)
}
