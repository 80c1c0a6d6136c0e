//go:build linux

package mountpoint

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/mount"
)

// Origin opens what an image, whose layers' trees are lowers, has at the mount's place; nil if it has no folder there.
func (m *Point) Origin(lowers []string) (*os.File, error) {
	merged, err := mount.Overlay(mount.OverlayOptions{Lowers: lowers})
	if err != nil {
		return nil, err
	}
	defer merged.Close()
	folder, err := mount.RootAt(merged.File()).Open(m.Destination, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, nil // the image has nothing there
	}
	return folder, nil
}

// Fill copies it into a volume's folder, owners and modes included.
func (m *Point) Fill(origin *os.File, dir string) error {
	data, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return errs.Wrap("fill volume "+m.Name, err)
	}
	defer data.Close()
	return trace.Step("copy", "an empty volume begins with what the image has at its place", "volume", m.Name, "path", m.Destination).Do(func() error {
		if err := mount.CopyFolder(origin, data); err != nil {
			return err
		}
		return mount.CopyAttributes(origin, data)
	})
}
