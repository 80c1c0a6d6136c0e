//go:build linux

package engine

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/quota"
)

// layerSize reads --storage-opt size=; 0 is no bound.
func (c *Container) layerSize() (int64, error) {
	for key, value := range c.HostConfig.StorageOpt {
		if key != "size" {
			return 0, errs.Text(errs.Invalid, "unknown option "+key+" of --storage-opt").WithHint("size=SIZE")
		}
		return quota.Size(value)
	}
	return 0, nil
}

// layerImage is the write layer's file system, where its size is bounded and the engine's has no quotas.
func (c *Container) layerImage() string { return filepath.Join(c.dataDir(), "rw.img") }

// boundLayer bounds the folder of the write layer, which is empty.
func (c *Container) boundLayer(rw string) error {
	size, err := c.layerSize()
	if size == 0 || err != nil {
		return err
	}
	if err := quota.Bound(c.e.root, rw, c.layerImage(), c.dataDir(), size); err != nil {
		return err
	}
	return quota.Mount(c.layerImage(), rw)
}

// writeLayer is the folder with what the container writes. One that is a file system of its own is mounted: it stays so
// until the container is removed, or the host starts anew.
func (c *Container) writeLayer() (string, error) {
	rw := filepath.Join(c.dataDir(), "rw")
	return rw, quota.Mount(c.layerImage(), rw)
}

// dropLayer unmounts it, before it is removed.
func (c *Container) dropLayer() {
	if exists(c.layerImage()) {
		_ = unix.Unmount(filepath.Join(c.dataDir(), "rw"), unix.MNT_DETACH)
	}
}
