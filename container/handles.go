//go:build linux

package container

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
)

// openMounts makes those mounts of the host's files that init cannot make itself, and hands them to it: idmapped ones,
// which need rights over the host's file system, with a user namespace all, because what is root in it may not walk
// to every source, shared ones, which are peers of the host's mount only when they are taken in its namespace
// (mount_namespaces(7)), and unions of more layers than init can name in one text. They are attached nowhere; init puts them in their places.
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
		var tree *mount.Tree
		var err error
		switch {
		case m.Type == "bind" && !foreign(m.Source) && (len(m.UIDMaps) > 0 || p.has("user") || m.shared()):
			tree, err = p.openBind(m, userns)
		case m.Type == "overlay" && (p.has("user") || m.manyLayers()):
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

func (m *Mount) shared() bool {
	return slices.ContainsFunc(m.Options, func(o string) bool { return mount.Propagation(o)&unix.MS_SHARED != 0 })
}

// manyLayers reports whether an overlay's layers are more than one text of mount(2) holds, and all that its options say.
func (m *Mount) manyLayers() bool {
	return len(strings.Join(m.Options, ",")) >= os.Getpagesize() && !slices.ContainsFunc(m.Options, func(o string) bool {
		key, _, _ := strings.Cut(o, "=")
		return key != "lowerdir" && key != "upperdir" && key != "workdir" && key != "ro"
	})
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
	o := mount.OverlayOptions{Label: p.MountLabel}
	if len(p.UIDMaps) > 0 {
		ns, err := mapsOf(p.UIDMaps, p.GIDMaps, userns)
		if err != nil {
			return nil, err
		}
		o.UserNS = ns
	}
	for _, option := range m.Options {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "lowerdir":
			o.Lowers = mount.SplitLayers(value)
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

// OpenMount makes one of the plan's mounts for a container that runs already: attached nowhere, with its attributes. The
// options say how it spreads once it is attached.
func (p *Plan) OpenMount(destination string) (*mount.Tree, mount.Options, error) {
	for i := range p.Mounts {
		m := &p.Mounts[i]
		if m.Destination != destination {
			continue
		}
		o, err := mount.ParseOptions(m.Options)
		if err != nil {
			return nil, o, err
		}
		tree, err := p.open(m, o)
		if err != nil {
			return nil, o, errs.Wrap("mount "+m.Source+" on "+m.Destination, err)
		}
		if err := tree.SetAttr(o); err != nil {
			tree.Close()
			return nil, o, err
		}
		return tree, o, nil
	}
	return nil, mount.Options{}, errs.Text(errs.NotFound, "no mount on "+destination)
}

func (p *Plan) open(m *Mount, o mount.Options) (*mount.Tree, error) {
	switch {
	case m.Type == "bind":
		return p.openBind(m, map[string]*os.File{})
	case m.Type == "overlay":
		return p.openOverlay(m, map[string]*os.File{})
	case m.Type == "tmpfs" && len(p.UIDMaps) > 0:
		o.Data = p.ownIDs(o.Data)
	}
	o.Data = append(o.Data, p.label(m.Type)...)
	return mount.Filesystem(m.Type, m.Type, o)
}

// ownIDs turns the owner that a tmpfs's options name, or root, into ids of the host: such a file system is made by the
// host's root, not in the container's user namespace.
func (p *Plan) ownIDs(options []string) (out []string) {
	ids := map[string]uint64{"uid": 0, "gid": 0}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		n, err := strconv.ParseUint(value, 10, 32)
		if _, ok := ids[key]; ok && err == nil {
			ids[key] = n
			continue
		}
		out = append(out, o) // the kernel says what is wrong with it
	}
	for key, maps := range map[string][]namespace.IDMap{"uid": p.UIDMaps, "gid": p.GIDMaps} {
		if id, ok := namespace.ToHost(maps, uint32(ids[key])); ok {
			out = append(out, key+"="+strconv.FormatUint(uint64(id), 10))
		}
	}
	return out
}
