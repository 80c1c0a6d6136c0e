//go:build linux

package monitor

import (
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/mount"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/monitor/logs"
	"github.com/berth-containers/berth/network/dns"
)

type monitor struct {
	Config
	hub      hub
	log      *logs.Writer
	control  *os.File          // the listening socket
	observer *os.File          // nil: nobody looks
	held     []*os.File        // until the end
	names    *dns.Server       // nil: nobody's names are answered
	program  *container.Sealed // for the first life; nil afterwards
	root     *rootMount        // the same

	telling   sync.Mutex // of Journal
	accepting sync.Mutex // who comes while the monitor goes to rest waits
	mu        sync.Mutex // of all below
	busy      int        // so many want something
	status    Status
	life      *life // nil between two lives of the container
	revive    bool  // there is a next life, whatever the policy says
	gone      bool  // the folder is being removed: nothing is written to it any more
	stopped   bool  // somebody has asked for the end: no further life
	by        string
	rest      *time.Timer   // until it rests
	ending    chan struct{} // closed when stopped becomes true
	finished  chan struct{} // closed when the last life is over
}

// life is one run of the container's program.
type life struct {
	c      *container.Container // nil while the monitor sleeps; then:
	asleep *os.File             // the pidfd

	over   bool // the program has ended
	killed bool // SIGKILL was sent, which nothing survives
	io     *stdio
	pipes  pipes
	ended  chan struct{} // closed when the program has ended
	exit   Exit
}

// collectAt is the percentage of growth after which garbage is collected: there is little, and the pages it would take
// are paid for by every container.
const collectAt = 50

// survived are signals that end a session or a terminal. They must not end the container; who wants that asks us.
var survived = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM}

// catchSignals catches them and does not ignore them, because the container's program would inherit that.
func catchSignals() { signal.Notify(make(chan os.Signal, 1), survived...) }

func newMonitor() *monitor {
	return &monitor{ending: make(chan struct{}), finished: make(chan struct{})}
}

// Main is the monitor. It returns the exit status of its process, which nobody asks for.
func Main() int {
	trace.Begin("monitor")
	// Nothing that we hold is for those that we start.
	_ = unix.CloseRange(connFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if h, ok := rested(); ok {
		catchSignals()
		return sleep(h)
	}
	debug.SetGCPercent(collectAt)
	conn, err := newConn(connFD)
	if err != nil {
		return 1
	}
	m := newMonitor()
	m.program = container.Seal()
	if slices.Contains(os.Environ(), observerNotice) {
		m.observer = os.NewFile(observerFD, "observer")
		trace.Observe(m.observer)
	}
	f := first{Config: &m.Config}
	payload, err := m.learn(conn, &f)
	if err != nil {
		_ = conn.sendJSON(frameReply, Reply{Error: errs.ToWire(errs.Wrap("read configuration of monitor", err))})
		return 1
	}
	if f.Request.Op == opAdopt {
		catchSignals()
		return m.takeOver(conn)
	}
	if err := m.begin(payload); err != nil {
		m.fail(conn, err)
		return 1
	}
	m.attachFirst(conn, f.Request)
	m.live(nil)
	return 0
}

// learn waits until the engine has told what this monitor is for, and takes its place beside the container.
func (m *monitor) learn(conn *Conn, f *first) (payload []byte, err error) {
	files, payload, err := conn.receiveFirst(m.mountSoon)
	if err == nil {
		err = json.Unmarshal(payload, f)
	}
	if err == nil && len(files) == 0 {
		err = errors.New("the container's lock is missing")
	}
	if err == nil {
		m.held, err = files[1:], takePlace(m.Dir, files[0])
	}
	return payload, err
}

// begin is the first start. Whoever asked for it is attached before the program runs, so that no output is missed.
func (m *monitor) begin(told []byte) (err error) {
	if m.log, err = logs.Open(m.Log); err != nil {
		return err
	}
	if err := m.listen(); err != nil {
		return err
	}
	if err := m.serveNames(); err != nil {
		return err
	}
	m.status.Restarts = m.Restarts
	return m.create(func() error {
		catchSignals() // it takes a millisecond, and until here nothing runs that could be lost
		// From when anybody hears that it runs it must survive whatever becomes of this process.
		return atomicfile.Write(filepath.Join(m.Dir, configFile), told, 0o600, atomicfile.Fast)
	})
}

// serveNames answers the container's questions for names, from the host's namespace, and looks after the firewall, until this process ends.
func (m *monitor) serveNames() error {
	if m.Names == nil {
		return nil
	}
	kind, _ := namespace.ByName("network")
	ns, err := namespace.OpenPath(m.Names.Namespace, kind)
	if err != nil {
		return err
	}
	defer ns.Close()
	server, err := dns.Listen(ns, m.Names.Zone, &m.Names.Upstream, m.Names.Egress)
	if err == nil {
		m.names = server
		go server.Serve()
		if m.Names.Repair != nil {
			go m.Names.Repair.guardFirewall()
		}
	}
	return err
}

// fail tells why there is no container, after everything is undone.
func (m *monitor) fail(conn *Conn, err error) {
	exit := &Exit{Code: errs.ExitCode(err), FinishedAt: time.Now().UTC(), Error: err.Error()}
	m.finish(exit)
	_ = conn.sendJSON(frameReply, Reply{Error: errs.ToWire(err), Steps: trace.Records()})
	conn.Close()
}

// attachFirst lets the program run, with the engine attached as it wished.
func (m *monitor) attachFirst(conn *Conn, r Request) {
	attached := r.Stdin || r.Stdout || r.Stderr || r.Op == "wait"
	if attached {
		m.hub.add(conn, r)
	}
	if err := m.start(); err != nil {
		m.hub.drop(conn)
		m.abandon()
		m.fail(conn, err)
		os.Exit(1)
	}
	if m.observer != nil { // its end tells the reader that all was shown
		trace.Observe(nil)
		m.observer.Close()
	}
	_ = conn.sendJSON(frameReply, Reply{Pid: m.status.Pid})
	m.copyOutput()
	if attached {
		m.enter()
		go func() {
			m.attend(conn, r)
			m.left()
		}()
	} else {
		conn.Close()
	}
	go m.keepStart(m.life.c)
	go m.serve()
}

// keepStart writes what was done for the start, for `explain`, and forgets it.
func (m *monitor) keepStart(c *container.Container) {
	steps := slices.Concat(m.Steps, trace.Pack(trace.Records()), c.TakeSteps())
	m.mu.Lock()
	if !m.gone {
		_ = atomicfile.Write(filepath.Join(m.Dir, traceFile), steps, 0o600, atomicfile.Fast)
	}
	m.mu.Unlock()
	trace.Reset()
	m.Steps = nil
	m.restWhenIdle()
}

// create makes a container whose program does not run yet; meanwhile is done while its init makes itself ready, and may
// be nil.
func (m *monitor) create(meanwhile func() error) (err error) {
	l := &life{ended: make(chan struct{})}
	terminal := m.Plan.Process.Terminal
	if terminal {
		l.io = &stdio{}
	} else if l.io, l.pipes, err = openPipes(m.OpenStdin); err != nil {
		return err
	}
	o := container.CreateOptions{Root: m.Runtime, ID: m.ID, Bundle: m.Bundle, Plan: m.Plan, Program: m.program, Meanwhile: meanwhile}
	m.program = nil
	if len(l.io.theirs) == 3 {
		o.Stdin, o.Stdout, o.Stderr = l.io.theirs[0], l.io.theirs[1], l.io.theirs[2]
	}
	if m.Overlay != nil {
		if o.Rootfs, err = m.mountRoot(); err != nil {
			l.io.close()
			return err
		}
		defer o.Rootfs.Close()
	}
	if l.c, err = container.Create(o); err != nil {
		l.io.close()
		return err
	}
	l.io.handedOver()
	if terminal {
		if err := l.io.useTerminal(l.c.Console()); err != nil {
			return err
		}
	}
	m.mu.Lock()
	m.life = l
	m.mu.Unlock()
	return nil
}

// mountRoot makes the union mount. It is attached nowhere: only the container's own mount namespace ever has it.
func (m *monitor) mountRoot() (*mount.Tree, error) {
	if r := m.root; r != nil {
		m.root = nil
		<-r.made
		return r.tree, r.err
	}
	if !m.Overlay.Mapped {
		return m.Overlay.mount(nil, m.Plan.MountLabel)
	}
	userns, err := namespace.UserNamespace(m.Plan.UIDMaps, m.Plan.GIDMaps)
	if err != nil {
		return nil, err
	}
	defer userns.Close()
	return m.Overlay.mount(userns, m.Plan.MountLabel)
}

// rootMount is a union mount that is being made.
type rootMount struct {
	made chan struct{} // closed when tree or err is there
	tree *mount.Tree
	err  error
}

// mountSoon makes the root of the first life beside what else is done before it is needed. It has neither id maps nor an
// SELinux label.
func (m *monitor) mountSoon(told []byte) {
	r := &rootMount{made: make(chan struct{})}
	m.root = r
	go func() {
		var o Overlay
		if r.err = json.Unmarshal(told, &o); r.err == nil {
			r.tree, r.err = o.mount(nil, "")
		}
		close(r.made)
	}()
}

func (o *Overlay) mount(userns *os.File, label string) (*mount.Tree, error) {
	return mount.Overlay(mount.OverlayOptions{Lowers: o.Lowers, Upper: o.Upper, Work: o.Work, Volatile: o.Volatile, Label: label, UserNS: userns})
}

// copyOutput begins to take what the program writes. Until then it waits in the pipes.
func (m *monitor) copyOutput() {
	m.life.io.copyTo(func(kind byte, b []byte) {
		m.log.Write(kind, b[headerSize:])
		m.hub.send(kind, b)
	})
}

// start lets the created program run.
func (m *monitor) start() error {
	l := m.life
	if err := l.c.Start(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Phase, m.status.Pid, m.status.StartedAt = Running, l.c.Pid(), time.Now().UTC()
	m.status.Pipes, m.status.Takeovers = l.pipes, 0
	m.status.PidSince, _ = container.StartTime(m.status.Pid)
	l.exit.StartedAt = m.status.StartedAt
	if m.Health != nil {
		m.status.Health = &HealthStatus{Status: healthStarting}
	}
	if err := m.publish(); err != nil {
		return err
	}
	m.keepBegin(&l.exit)
	m.tell("start")
	go m.watchHealth(l)
	return nil
}

// unseenCode is the exit code of a program whose end nobody saw, as Docker's.
const unseenCode = 255

// LostExit is the end of a program that ran while it had no monitor, found now.
func LostExit(started time.Time) *Exit {
	return &Exit{Code: unseenCode, Unknown: true, StartedAt: started, FinishedAt: time.Now().UTC(), Error: ErrLost.Error()}
}

// keepBegin writes down that the program runs, where its end is written later: after the host went down it is known that
// it did.
func (m *monitor) keepBegin(exit *Exit) {
	if m.Begun != "" {
		_ = atomicfile.WriteJSON(m.Begun, &Exit{Code: unseenCode, StartedAt: exit.StartedAt, FinishedAt: exit.StartedAt, Restarts: m.status.Restarts,
			Error: "the host went down", Unseen: true}, atomicfile.Fast)
	}
}

// abandon ends a created container whose start has failed.
func (m *monitor) abandon() {
	m.mu.Lock()
	l := m.life
	m.life = nil
	m.mu.Unlock()
	if l == nil {
		return
	}
	_ = l.c.Delete(true)
	l.io.drain(time.Second, nil)
}

// live stays with the container until its last life is over. The exit is that of a life that is over already, or nil.
func (m *monitor) live(exit *Exit) {
	var timeout <-chan time.Time
	if m.Timeout > 0 {
		timeout = time.After(time.Until(m.status.StartedAt.Add(m.Timeout)))
	}
	go func() {
		select {
		case <-timeout:
			_ = m.stop(0, nil, "timeout")
		case <-m.finished:
		}
	}()
	for delay := time.Duration(0); ; exit = nil {
		if exit == nil {
			exit = m.awaitEnd()
		}
		if delay = m.nextDelay(exit, delay); delay == 0 || !m.pause(exit, delay) || !m.restart(exit) {
			m.mu.Lock()
			if m.stopped { // also between two lives: a boot must know that somebody has stopped it
				exit.By = m.by
			}
			m.mu.Unlock()
			m.finish(exit)
			m.hub.end(exit)
			return
		}
	}
}

// awaitEnd waits for the end of the program and takes the container down.
func (m *monitor) awaitEnd() *Exit {
	l := m.life
	l.awaitProgram()
	if err := m.wake(); err != nil {
		os.Exit(1) // the next command that looks cleans up
	}
	m.mu.Lock()
	l.over = true // from here on it does not rest
	m.mu.Unlock()
	status, err := l.c.Wait()
	l.exit.set(status, err)
	m.mu.Lock()
	if l.exit.Unknown && l.killed {
		l.exit.Code, l.exit.Signal, l.exit.Unknown, l.exit.Error = 128+int(unix.SIGKILL), int(unix.SIGKILL), false, ""
	}
	m.mu.Unlock()
	l.exit.Pid = l.c.Pid()
	if m.Exit == "" { // it goes with its end, and nobody can ask
		l.exit.OOMKilled = l.c.OOMKills() > 0
	} else {
		l.exit.Marks = l.c.Group().Marks()
		l.exit.OOMKilled = l.exit.Marks.OOMKills > 0
	}
	m.mu.Lock()
	m.life = nil
	l.exit.By = m.by
	m.mu.Unlock()
	m.tellEnd(&l.exit)
	close(l.ended)
	err = l.c.Delete(true)
	if err != nil { // nobody comes after us: a second attempt is all there is
		err = l.c.Delete(true)
	}
	if err != nil && l.exit.Error == "" {
		l.exit.Error = err.Error()
	}
	l.io.drain(2*time.Second, func() bool { return m.waitForReader(&l.exit) })
	m.log.Finish()
	return &l.exit
}

// waitForReader reports whether what an ended program has written is kept for somebody who reads slowly. It is, unless the
// container is to end, or to go on: nobody can keep it from either.
func (m *monitor) waitForReader(exit *Exit) bool {
	if !m.hub.slow() {
		return false
	}
	m.mu.Lock()
	patient := !m.stopped && !m.revive && !m.Restart.again(exit, m.status.Restarts-m.Restarts)
	m.mu.Unlock()
	if !patient {
		m.hub.hurry()
	}
	return true
}

// set takes what wait4(2) said.
func (e *Exit) set(status unix.WaitStatus, err error) {
	e.FinishedAt = time.Now().UTC()
	switch {
	case errors.Is(err, container.ErrStatusLost):
		e.Code, e.Unknown, e.Error = unseenCode, true, err.Error()
	case err != nil:
		e.Code, e.Error = 125, err.Error()
	case status.Signaled():
		e.Signal = int(status.Signal())
		e.Code = 128 + e.Signal
	default:
		e.Code = status.ExitStatus()
	}
}
