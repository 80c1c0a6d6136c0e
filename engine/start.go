//go:build linux

package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/flock"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/lsm"
	"github.com/berth-containers/berth/monitor"
	"github.com/berth-containers/berth/network"
	"github.com/berth-containers/berth/network/egress"
)

// Start starts a created or stopped container. With streams the session is attached from the first byte on; without it
// is nil. If it fails, the container is as before.
func (c *Container) Start(o StartOptions) (*Session, error) {
	lock, err := c.lock()
	if err != nil {
		return nil, err
	}
	if lock == nil {
		return nil, errs.Text(errs.NotModified, "container "+c.ID+" is already started")
	}
	defer lock.Leave() // the monitor holds it, too
	if exists(c.runDir()) {
		c.clean() // it is that of a monitor that was killed
	}
	if err := c.makeRunDir(); err != nil {
		return nil, err
	}
	session, err := c.start(o, lock.File())
	if err != nil {
		c.clean()
	}
	return session, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (c *Container) makeRunDir() error {
	dir := c.runDir()
	return trace.Step("mkdir", "what is there only while the container runs", "dir", dir).Do(func() error {
		for _, d := range []string{dir, c.bundle(), filepath.Join(dir, rootFolder)} {
			if err := os.Mkdir(d, 0o711); err != nil {
				return errs.Wrap("start container", err)
			}
		}
		return nil
	})
}

// start is a start with the lock held and the folder made. What it leaves when it fails, clean removes.
func (c *Container) start(o StartOptions, lock *os.File) (_ *Session, err error) {
	// Its process begins while all that it is to be told is found out.
	starting := c.e.nextMonitor()
	begun := false
	defer func() {
		if !begun {
			starting.Cancel()
		}
	}()
	if err := starting.Wait(); err != nil {
		return nil, err
	}
	root, err := c.overlay()
	if err == nil && !root.Mapped && !lsm.SELinux() {
		err = starting.Mount(root)
	}
	if err != nil {
		return nil, err
	}
	attachment, err := c.connect()
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, f := range attachment.Held {
			f.Close() // the monitor holds them, too
		}
	}()
	if err := c.writeNetworkFiles(attachment.Endpoints); err != nil {
		return nil, err
	}
	spec, err := c.spec()
	if err != nil {
		return nil, err
	}
	cfg, err := c.monitorConfig(spec, root, attachment.Endpoints)
	if err != nil {
		return nil, err
	}
	_ = os.Remove(filepath.Join(c.dataDir(), exitFile))
	r := monitor.Request{Op: "start"}
	if s := o.Streams; s != nil {
		r = monitor.Request{Op: "attach", Stdin: s.Stdin != nil, Stdout: s.Stdout != nil, Stderr: s.Stderr != nil}
	}
	begun = true
	if o.Streams != nil {
		c.tell("attach")
	}
	c.tellMounts()
	conn, err := starting.Begin(cfg, r, lock, attachment.Held)
	if err != nil {
		c.tellUnmounts()
		return nil, err
	}
	if _, err := conn.Reply(); err != nil {
		conn.Close()
		return nil, err
	}
	if o.Streams == nil {
		return nil, conn.Close()
	}
	return &Session{c: c, conn: conn, streams: *o.Streams, left: "detach", tty: c.Tty}, nil
}

// connect gives the container a network namespace with its places in networks, if it has any. What is left when it fails,
// clean removes.
func (c *Container) connect() (*network.Attachment, error) {
	if !c.hasBridge() {
		return &network.Attachment{}, nil
	}
	if err := os.MkdirAll(filepath.Dir(c.e.netnsPath(c.ID)), 0o711); err != nil {
		return nil, errs.Wrap("make network namespace", err)
	}
	ns, err := network.NewNamespace(c.e.netnsPath(c.ID))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	requests, err := c.networkRequests()
	if err != nil {
		return nil, err
	}
	attachment, err := c.e.networks.Attach(ns, requests)
	if err != nil {
		return nil, err
	}
	for i := range attachment.Endpoints {
		if err := c.e.records().Add(entry(&attachment.Endpoints[i])); err != nil {
			return nil, err
		}
	}
	if len(c.Egress) > 0 {
		policy, err := egress.Parse(c.Egress)
		if err == nil {
			err = policy.Install(ns)
		}
		if err != nil {
			return nil, err
		}
	}
	return attachment, c.linkNames()
}

// StartSoon says that a container will be started: what every start begins with is begun. The function that it returns
// takes that back, if no start has used it.
func (e *Engine) StartSoon() (cancel func()) {
	e.soon = monitor.Launch()
	return func() {
		if e.soon != nil {
			e.soon.Cancel()
			e.soon = nil
		}
	}
}

// nextMonitor is the process for the monitor of a start.
func (e *Engine) nextMonitor() *monitor.Starting {
	if s := e.soon; s != nil {
		e.soon = nil
		return s
	}
	return monitor.Launch()
}

// overlay is the container's root.
func (c *Container) overlay() (*monitor.Overlay, error) {
	rw, err := c.writeLayer()
	return &monitor.Overlay{Lowers: c.Lowers, Upper: filepath.Join(rw, "fs"), Work: filepath.Join(rw, "work"),
		Volatile: c.HostConfig.AutoRemove, Mapped: c.IDRange != nil}, err
}

// monitorConfig is all that the monitor is told.
func (c *Container) monitorConfig(spec *specs.Spec, root *monitor.Overlay, endpoints []network.Endpoint) (*monitor.Config, error) {
	plan, err := c.plan(spec)
	if err != nil {
		return nil, err
	}
	log, err := c.logConfig()
	if err != nil {
		return nil, err
	}
	cfg := &monitor.Config{
		ID: c.ID, Dir: c.runDir(), Runtime: c.e.runtimeRoot(), Bundle: c.bundle(), Plan: plan,
		Overlay: root, Log: *log, OpenStdin: c.OpenStdin, StdinOnce: c.StdinOnce,
		StopSignal: int(c.stopSignal()), StopTimeout: c.stopTimeout(), Timeout: c.Timeout,
		Restart: monitor.Restart{Policy: string(c.HostConfig.RestartPolicy.Name), Retries: c.HostConfig.RestartPolicy.MaximumRetryCount},
		Health:  c.health(),
		Begun:   filepath.Join(c.dataDir(), exitFile),
		Exit:    filepath.Join(c.dataDir(), exitFile),
		Journal: c.journal(),
	}
	if c.hasBridge() {
		cfg.Undo.Unmount = []string{c.e.netnsPath(c.ID)}
		cfg.Names = c.names(endpoints)
	}
	if c.HostConfig.AutoRemove {
		cfg.Exit, cfg.Remove = "", c.traces()
		for _, m := range c.Mounts {
			if dir, device := c.e.volumes.Folder(m.Name); dir != "" && (device || slices.Contains(c.Anon, m.Name)) {
				cfg.Idle = append(cfg.Idle, monitor.Idle{Dir: dir, Drop: slices.Contains(c.Anon, m.Name)})
			}
		}
		if exists(c.layerImage()) {
			cfg.Undo.Unmount = append(cfg.Undo.Unmount, filepath.Dir(root.Upper))
		}
	}
	return cfg, nil
}

// bundle is the folder with the container's specification, as an OCI runtime would be given it.
func (c *Container) bundle() string { return filepath.Join(c.runDir(), "bundle") }

// plan reduces the specification, and at the same time keeps it in the bundle.
func (c *Container) plan(spec *specs.Spec) (*container.Plan, error) {
	kept := make(chan error, 1)
	go func() {
		kept <- errs.Wrap("write bundle", atomicfile.WriteJSON(filepath.Join(c.bundle(), "config.json"), spec, atomicfile.Fast))
	}()
	plan, err := container.NewPlan(spec, c.bundle())
	if kerr := <-kept; err == nil {
		err = kerr
	}
	if err != nil {
		return nil, err
	}
	plan.Process.Reaper = c.HostConfig.Init != nil && *c.HostConfig.Init
	return plan, nil
}

// traces are the files and folders of a container that goes with its end, its name last: until then the name is taken.
func (c *Container) traces() []string {
	var out []string
	for _, m := range c.Mounts {
		if m.Name != "" {
			out = append(out, c.e.volumes.Trace(m.Name, c.ID))
		}
	}
	return append(out, c.dataDir(), filepath.Join(c.e.root, "names", c.Name))
}

func (c *Container) stopTimeout() time.Duration {
	if c.StopTimeout == nil {
		return 10 * time.Second
	}
	return time.Duration(*c.StopTimeout) * time.Second
}

// health translates the check; nil when there is none.
func (c *Container) health() *monitor.Health {
	h := c.Healthcheck
	if h == nil || len(h.Test) == 0 || h.Test[0] == "NONE" {
		return nil
	}
	out := &monitor.Health{Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval,
		Retries: h.Retries, OnFailure: c.HealthOnFailure}
	switch h.Test[0] {
	case "CMD":
		out.Test = h.Test[1:]
	case "CMD-SHELL":
		shell := c.Config.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		out.Test = append(slices.Clone(shell), h.Test[1:]...)
	default:
		return nil
	}
	for _, d := range []struct {
		to       *time.Duration
		fallback time.Duration
	}{{&out.Interval, 30 * time.Second}, {&out.Timeout, 30 * time.Second}, {&out.StartInterval, 5 * time.Second}} {
		if *d.to == 0 {
			*d.to = d.fallback
		}
	}
	if out.Retries == 0 {
		out.Retries = 3
	}
	return out
}

// clean removes what a start that failed, or a monitor that was killed, has left: processes, control groups, networks,
// mounts, files. The caller holds the lock, or the container is gone.
func (c *Container) clean() {
	if heart, err := container.Open(c.e.runtimeRoot(), c.ID); err == nil {
		_ = heart.Delete(true)
	}
	_ = container.Remove(c.e.runtimeRoot(), c.ID) // also what has no state yet
	c.e.records().DropAliases(c.ID, "")
	c.e.networks.Detach(c.ID)
	if netns := c.e.netnsPath(c.ID); exists(netns) {
		undo := monitor.Undo{Unmount: []string{netns}}
		undo.Run()
	}
	_ = os.RemoveAll(c.runDir())
}

// Clean removes what is left of a container that does not run, or is not there any more: what is only there while one
// runs. It does nothing to one that runs.
func (e *Engine) Clean(id string) {
	c := &Container{e: e}
	c.ID = id
	if !e.exists(id) {
		c.clean()
		return
	}
	_ = c.WhileStopped(func() error {
		c.clean()
		return nil
	})
}

// Has reports whether an id is that of a container, and whether that runs or is about to.
func (e *Engine) Has(id string) (has, busy bool) {
	if !e.exists(id) {
		return false, false
	}
	c := &Container{e: e}
	c.ID = id
	lock, err := c.lock()
	if err == nil && lock == nil {
		return true, true
	}
	lock.Unlock()
	return true, false
}

// repair gives a container whose monitor was killed another one, or ends what is left of it when that cannot be. It
// does nothing to one that is being started.
func (c *Container) repair() {
	if !exists(c.runDir()) {
		return
	}
	lock := c.awaitMonitor()
	if lock == nil {
		return
	}
	defer lock.Leave() // another monitor may have it
	if status, _, _ := c.now(); status != nil || !exists(c.runDir()) {
		return
	}
	if c.replaceMonitor(lock) == nil {
		return
	}
	last := monitor.LastStatus(c.runDir())
	c.clean()
	exit := monitor.LostExit(time.Time{})
	c.tell("die", "exitCode", strconv.Itoa(exit.Code), "error", exit.Error)
	c.tellUnmounts()
	if c.HostConfig.AutoRemove {
		c.erase()
		c.tell("destroy")
		return
	}
	if last != nil {
		exit.StartedAt, exit.Restarts = last.StartedAt, last.Restarts
	}
	_ = atomicfile.WriteJSON(filepath.Join(c.dataDir(), exitFile), exit, atomicfile.Fast)
}

// awaitMonitor returns the lock of a container that has no monitor. While another process holds it, that one is starting
// the container or puts a monitor in the place of one that was killed: then it waits a little for that monitor, or for the
// end of the attempt.
func (c *Container) awaitMonitor() *flock.Lock {
	for range 500 {
		lock, err := c.lock()
		if err != nil || lock != nil {
			return lock
		}
		if monitor.LastStatus(c.runDir()) == nil {
			return nil // it is being started, or gone
		}
		if status, _, _ := c.now(); status != nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// replaceMonitor starts a monitor that takes over. The caller holds the lock, which becomes the monitor's.
func (c *Container) replaceMonitor(lock *flock.Lock) error {
	cfg, err := monitor.ReadConfig(c.runDir())
	if err != nil {
		return err
	}
	starting := monitor.Launch()
	if err := starting.Wait(); err != nil {
		return err
	}
	held := c.e.networks.Hold(c.ID)
	conn, err := starting.Adopt(cfg, lock.File(), held)
	for _, f := range held {
		f.Close()
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Reply()
	return err
}
