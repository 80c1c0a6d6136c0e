//go:build linux

package engine

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/engine/change"
	"github.com/berth-containers/berth/engine/devices"
	"github.com/berth-containers/berth/engine/idrange"
	"github.com/berth-containers/berth/engine/limits"
	"github.com/berth-containers/berth/engine/link"
	"github.com/berth-containers/berth/engine/netspec"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
	"github.com/berth-containers/berth/internal/signals"
	"github.com/berth-containers/berth/internal/trace"
	bridges "github.com/berth-containers/berth/network"
)

// process is what a container runs: the user's wishes over the image's defaults.
type process struct {
	Args []string
	Env  []string
	Cwd  string
	User string // as in the image: name or number, with a group or without
}

// DefaultImage is the image that every engine has: it is a part of the program.
const DefaultImage = "localhost/busybox:latest"

// Create makes a container from an image that is there. If it fails, nothing of it is left.
func (e *Engine) Create(cfg Config) (_ *Container, err error) {
	lock, err := e.images.Writing() // nobody takes the layers away until the configuration says that they are used
	if err != nil {
		return nil, err
	}
	defer lock.Unlock()
	img, err := e.resolve(cfg.Image)
	if err != nil {
		return nil, err
	}
	e.images.Touch(img)
	c := &Container{e: e, record: record{Config: cfg, Created: time.Now().UTC(), ImageID: img.ID}}
	c.UserAsked = c.User != ""
	c.inherit(&img.Config)
	if err := c.checkPlatform(img); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Lowers, err = e.images.Lowers(img); err != nil {
		return nil, err
	}
	if c.ID, err = newID(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.erase()
		}
	}()
	if err := c.makeFolders(); err != nil {
		return nil, err
	}
	making, err := c.lock()
	if err != nil {
		return nil, err
	}
	defer making.Unlock()
	if c.Name == "" {
		c.Name, err = e.inventName(c.ID)
	} else {
		c.Name = strings.TrimPrefix(c.Name, "/")
		err = e.takeName(c.Name, c.ID)
	}
	if err != nil {
		return nil, err
	}
	if c.Hostname == "" && !c.HostConfig.UTSMode.IsHost() {
		c.Hostname = c.defaultHostname()
	}
	if err := c.findIDRange(); err != nil {
		return nil, err
	}
	if err := c.findMounts(); err != nil {
		return nil, err
	}
	for i := range c.Secrets {
		if err := c.Secrets[i].Keep(filepath.Join(c.dataDir(), secretsFolder)); err != nil {
			return nil, err
		}
	}
	if err := c.save(); err != nil {
		return nil, err
	}
	c.tell("create")
	return c, nil
}

// resolve finds an image. The default image comes into being when it is first asked for.
func (e *Engine) resolve(name string) (*image.Image, error) {
	if name == "" {
		return nil, errs.Text(errs.Invalid, "no image was named")
	}
	if name == DefaultImage || name == "localhost/busybox" || name == "busybox" {
		if img, err := e.images.Resolve(name); err == nil && !img.Superseded() {
			return img, nil
		}
		if _, err := e.images.SeedDefault(); err != nil {
			return nil, err
		}
	}
	return e.images.Resolve(name)
}

// HasImage reports whether an image is here, for a platform if that is not "".
func (e *Engine) HasImage(name, platform string) bool {
	img, err := e.images.Resolve(name)
	if err != nil || platform == "" {
		return err == nil
	}
	p, err := image.ParsePlatform(platform)
	return err != nil || img.Fits(p)
}

// checkPlatform refuses an image for another platform than was asked for, and says it of one that is not for this host.
func (c *Container) checkPlatform(img *image.Image) error {
	if c.Platform == "" {
		if !img.Fits(image.Host()) {
			host := image.Host()
			c.Notes = append(c.Notes, fmt.Sprintf("The requested image's platform (%s) does not match the detected host platform (%s/%s) and no specific platform was requested",
				img.Platform(), host.OS, host.Architecture))
		}
		return nil
	}
	p, err := image.ParsePlatform(c.Platform)
	if err == nil && !img.Fits(p) {
		err = errs.Text(errs.NotFound, fmt.Sprintf("image with reference %s was found but its platform (%s) does not match the specified platform (%s)", c.Image, img.Platform(), c.Platform))
	}
	return err
}

// defaultHostname is the short id; in the host's network it is the host's name, as programs there expect, and in another
// container's that one's.
func (c *Container) defaultHostname() string {
	if other := c.joined(); other != nil && other.Hostname != "" {
		return other.Hostname
	}
	if c.HostConfig.NetworkMode.IsHost() {
		if name, err := os.Hostname(); err == nil {
			return name
		}
	}
	return c.ShortID()
}

// inherit fills in what the user left to the image.
func (c *Container) inherit(img *dockerspec.DockerOCIImage) {
	from := &img.Config
	if c.User == "" {
		c.User = from.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = from.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = from.StopSignal
	}
	// A new entry point makes the image's arguments meaningless.
	if len(c.Entrypoint) == 0 && c.Config.Entrypoint == nil {
		c.Entrypoint = from.Entrypoint
		if len(c.Cmd) == 0 {
			c.Cmd = from.Cmd
		}
	}
	c.Env = change.MergeEnv(from.Env, c.Env)
	labels := maps.Clone(from.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, c.Labels)
	c.Labels = labels
	for name := range from.ExposedPorts {
		port, err := network.ParsePort(name)
		if err != nil {
			continue
		}
		if c.ExposedPorts == nil {
			c.ExposedPorts = network.PortSet{}
		}
		c.ExposedPorts[port] = struct{}{}
	}
	for volume := range from.Volumes {
		if c.Volumes == nil {
			c.Volumes = map[string]struct{}{}
		}
		c.Volumes[volume] = struct{}{}
	}
	c.Healthcheck = mergeHealth(from.Healthcheck, c.Healthcheck)
	c.Config.Shell = from.Shell
	c.Process = process{Args: append(slices.Clone(c.Entrypoint), c.Cmd...), Env: c.Env, Cwd: c.WorkingDir, User: c.User}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" { // --entrypoint ""
		c.Process.Args = c.Cmd
	}
	if c.Process.Cwd == "" {
		c.Process.Cwd = "/"
	}
	c.Process.Cwd = path.Join("/", c.Process.Cwd)
}

// mergeHealth lets what the user said win, key by key; an empty test is the image's.
func mergeHealth(from, own *dockerspec.HealthcheckConfig) *dockerspec.HealthcheckConfig {
	if own == nil || from == nil {
		if own == nil {
			return from
		}
		return own
	}
	out := *from
	if len(own.Test) > 0 {
		out.Test = own.Test
	}
	for _, p := range []struct{ to, value *time.Duration }{
		{&out.Interval, &own.Interval}, {&out.Timeout, &own.Timeout}, {&out.StartPeriod, &own.StartPeriod}, {&out.StartInterval, &own.StartInterval},
	} {
		if *p.value != 0 {
			*p.to = *p.value
		}
	}
	if own.Retries != 0 {
		out.Retries = own.Retries
	}
	return &out
}

func (c *Container) makeFolders() error {
	dir := c.dataDir()
	return trace.Step("mkdir", "what the container writes, its configuration and its log", "dir", dir).Do(func() error {
		for _, d := range []string{dir, filepath.Join(dir, "rw"), filepath.Join(dir, "rw/fs"), filepath.Join(dir, "rw/work")} {
			mode := os.FileMode(0o711)
			if d == filepath.Join(dir, "rw/fs") {
				mode = 0o755 // it is the container's /
			}
			if err := os.Mkdir(d, mode); err != nil {
				return errs.Wrap("create container", err)
			}
			if d == filepath.Join(dir, "rw") {
				if err := c.boundLayer(d); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Another is what is to be asked for to make a container like this one: of the same image, if that is here.
func (c *Container) Another(name string) Config {
	cfg := c.Config
	cfg.Name, cfg.Argv = name, nil
	if !c.UserAsked {
		cfg.User = ""
	}
	if cfg.Hostname == c.defaultHostname() {
		cfg.Hostname = ""
	}
	if img, err := c.e.images.Resolve(cfg.Image); err != nil || img.ID != c.ImageID {
		cfg.Image = c.ImageID // the name means another image by now
	}
	return cfg
}

// erase removes all that is kept of a container.
func (c *Container) erase() {
	if c.ID == "" {
		return
	}
	if c.Name != "" {
		c.e.dropName(c.Name, c.ID)
	}
	for _, m := range c.Mounts {
		if m.Name != "" {
			c.e.volumes.Release(m.Name, c.ID)
		}
	}
	for _, name := range c.Anon {
		_ = c.e.volumes.Remove(name, c.e.exists)
	}
	c.dropLayer()
	_ = os.RemoveAll(c.dataDir())
}

// check refuses what cannot work, before anything is made.
func (c *Container) check() error {
	if len(c.Process.Args) == 0 {
		return errs.Text(errs.Invalid, "no command specified").WithHint("the image has no default command: name one after the image")
	}
	h := &c.HostConfig
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return errs.Text(errs.Invalid, "can't create 'AutoRemove' container with restart policy")
	}
	if err := docker.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return errs.New(errs.Invalid, "", err)
	}
	if _, err := signals.Parse(c.StopSignal); c.StopSignal != "" && err != nil {
		return err
	}
	if c.Hostname != "" && h.UTSMode.IsHost() {
		return errs.Text(errs.Invalid, "conflicting options: hostname and the UTS mode")
	}
	if len(c.Hostname) > 63 || strings.ContainsAny(c.Hostname, " /\x00\n") {
		return errs.Text(errs.Invalid, fmt.Sprintf("invalid hostname %q", c.Hostname))
	}
	if h.OomScoreAdj < -1000 || h.OomScoreAdj > 1000 {
		return errs.Text(errs.Invalid, fmt.Sprintf("Invalid value %d, range for oom score adj is [-1000, 1000]", h.OomScoreAdj))
	}
	if h.ShmSize < 0 {
		return errs.Text(errs.Invalid, "SHM size can not be less than 0")
	}
	if err := limits.Check(&h.Resources); err != nil {
		return err
	}
	c.Notes = append(c.Notes, limits.Notes(&h.Resources)...)
	if _, err := c.layerSize(); err != nil {
		return err
	}
	if _, err := devices.Resolve(h.DeviceRequests); err != nil {
		return err
	}
	for _, check := range []func() error{func() error { return checkText(c.Process.Args, c.Process.Env) }, c.checkNetwork, c.checkEgress, c.checkSecurity, c.checkLog, c.checkSecrets} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Container) checkNetwork() error {
	for _, s := range c.NetworkingConfig.EndpointsConfig {
		if err := netspec.Endpoint(new(bridges.Request), s); err != nil {
			return err
		}
	}
	mode := c.HostConfig.NetworkMode
	if (mode.IsHost() || mode.IsContainer() || mode.IsNone()) && len(c.NetworkingConfig.EndpointsConfig) > 1 {
		return errs.Text(errs.Invalid, "conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	for _, l := range c.HostConfig.Links {
		if _, _, ok := link.Split(l); !ok {
			return errs.Text(errs.Invalid, "bad format for links: "+l)
		}
	}
	if len(c.HostConfig.Links) > 0 && !c.hasBridge() {
		return errs.Text(errs.Invalid, "conflicting options: "+string(mode)+" type networking can't be used with links")
	}
	if mode.IsContainer() {
		if err := netspec.Joined(&c.HostConfig, c.Hostname); err != nil {
			return err
		}
		if _, err := c.e.Lookup(mode.ConnectedContainer()); err != nil {
			return err
		}
	}
	return nil
}

func (c *Container) checkSecrets() error {
	names := map[string]bool{}
	for i := range c.Secrets {
		s := &c.Secrets[i]
		if names[s.Name] || names[s.Target] {
			return errs.Text(errs.Invalid, "secret "+s.Name+" is there twice")
		}
		names[s.Name], names[s.Target] = true, true
		if err := s.Check(); err != nil {
			return err
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.e.state, &fs); len(c.Secrets) > 0 && err == nil && fs.Type != unix.TMPFS_MAGIC && fs.Type != unix.RAMFS_MAGIC {
		c.Notes = append(c.Notes, "secrets lie on a disk while the container runs: the state folder "+c.e.state+" is not in memory")
	}
	return nil
}

// findIDRange decides about the container's user namespace. A range of its own is kept apart from those of all other
// containers under a lock.
func (c *Container) findIDRange() (err error) {
	mode := string(c.HostConfig.UsernsMode)
	if name, ok := strings.CutPrefix(mode, "container:"); ok {
		other, err := c.e.Lookup(name)
		if err != nil {
			return err
		}
		if c.IDRange = other.IDRange; c.IDRange == nil {
			return errs.Text(errs.Conflict, "join user namespace of container "+name+": it has none of its own")
		}
		return nil
	}
	if path, ok := strings.CutPrefix(mode, "ns:"); ok {
		c.IDRange, err = idrange.Of(path)
		return err
	}
	auto := false
	if c.IDRange, auto, err = idrange.Parse(mode); !auto {
		return err
	}
	lock, err := flock.Exclusive(filepath.Join(c.e.root, "idranges.lock"))
	if err != nil {
		return err
	}
	defer lock.Unlock()
	all, err := c.e.all()
	if err != nil {
		return err
	}
	var used []*idrange.Range
	for _, other := range all {
		if other.IDRange != nil {
			used = append(used, other.IDRange)
		}
	}
	if c.IDRange, err = idrange.Free(used); err != nil {
		return err
	}
	return c.save() // others see it before the lock is gone
}
