//go:build linux

package monitor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/listing"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/monitor/logs"
)

// A monitor that is killed takes nothing with it: what the next one must know lies in the container's running folder.
// The program has its output's pipes open for reading, too, so it gets no SIGPIPE when nobody else reads; it waits when
// they are full. Its input and a terminal end with the monitor that held their other ends.

// configFile is what the monitor was told first, for one that takes over.
const configFile = "monitor.json"

// opAdopt asks a new monitor to take over a container instead of starting it.
const opAdopt = "adopt"

// ReadConfig reads what the killed monitor of a running container was told.
func ReadConfig(dir string) (*Config, error) {
	f := first{Config: new(Config)}
	err := atomicfile.ReadJSON(filepath.Join(dir, configFile), &f)
	return f.Config, err
}

// Adopt tells the monitor to take over the container whose monitor was killed, which cfg was told. The reply comes when
// it has.
func (s *Starting) Adopt(cfg *Config, lock *os.File, held []*os.File) (*Conn, error) {
	return s.Begin(cfg, Request{Op: opAdopt}, lock, held)
}

// keepConfig writes down what has changed in it. The caller holds mu.
func (m *monitor) keepConfig() {
	if !m.gone {
		_ = atomicfile.WriteJSON(filepath.Join(m.Dir, configFile), first{Config: &m.Config}, atomicfile.Fast)
	}
}

// takeOver is the whole of a monitor that follows one that was killed. Its reply comes when a reader of the status finds
// what is true.
func (m *monitor) takeOver(conn *Conn) int {
	ended, err := m.adopt()
	if err != nil {
		conn.close(err)
		return 1 // the engine cleans up
	}
	over := ended != nil && !m.Restart.again(ended, m.status.Restarts-m.Restarts)
	if !over {
		conn.close(nil)
	}
	go m.serve()
	m.live(ended)
	if over {
		conn.close(nil)
	}
	return 0
}

// adopt finds the container as the killed monitor has left it. A program that has ended meanwhile gives the exit.
func (m *monitor) adopt() (ended *Exit, err error) {
	last := LastStatus(m.Dir)
	if last == nil {
		return nil, errs.New(errs.Internal, "take over container "+m.ID, errors.New("its status cannot be read"))
	}
	m.status = *last
	m.status.Since = 0
	m.status.Takeovers++
	if m.log, err = logs.Open(m.Log); err != nil {
		return nil, err
	}
	if err := m.listen(); err != nil {
		return nil, err
	}
	if err := m.serveNames(); err != nil {
		return nil, err
	}
	if last.Phase == Restarting {
		ended = last.Last
	} else if ended, err = m.adoptLife(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if ended != nil {
		m.status.Phase, m.status.Pid, m.status.PidSince, m.status.Last = Restarting, 0, 0, ended
	}
	return ended, m.publish()
}

// adoptLife takes over the program.
func (m *monitor) adoptLife() (ended *Exit, err error) {
	l := &life{ended: make(chan struct{}), io: &stdio{}}
	l.exit.StartedAt = m.status.StartedAt
	if l.c, err = container.Open(m.Runtime, m.ID); err == nil {
		err = trace.Step("pidfd_open", "whoever has this descriptor hears of the end of a process that is not its child", "pid", l.c.Pid()).Do(l.c.Adopt)
	}
	if err != nil { // what it has said of its end counts, if there is something
		ended = &Exit{}
		if atomicfile.ReadJSON(m.Exit, ended) != nil || ended.Unseen {
			ended = LostExit(m.status.StartedAt)
			ended.Pid = m.status.Pid
			m.tellEnd(ended)
		}
		if l.c != nil {
			return ended, l.c.Delete(true)
		}
		return ended, nil
	}
	for i, kind := range []byte{frameStdout, frameStderr} {
		if from := findPipe(l.c, m.status.Pipes[i]); from != nil {
			l.io.outputs = append(l.io.outputs, output{kind, from})
		}
	}
	m.life = l
	if m.Health != nil && m.status.Health != nil {
		go m.watchHealth(l)
	}
	m.copyOutput()
	if l.c.Ended() { // nobody must hear that it runs
		return m.awaitEnd(), nil
	}
	return nil, nil
}

// findPipe opens a pipe by its inode number, for reading. Some process of the container has it, or nobody writes to it
// any more. What a process of the container shows in /proc can change under us, so it is looked at before it is opened.
func findPipe(c *container.Container, inode uint64) *os.File {
	if inode == 0 {
		return nil
	}
	name := "pipe:[" + strconv.FormatUint(inode, 10) + "]"
	pids, _ := c.Group().Pids()
	for _, pid := range pids {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd"
		fds, err := listing.Folder(dir)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			path := filepath.Join(dir, fd.Name())
			if target, err := os.Readlink(path); err != nil || target != name {
				continue
			}
			if f, err := openPipe(path, inode); err == nil {
				return f
			}
		}
	}
	return nil
}

func openPipe(path string, inode uint64) (*os.File, error) {
	handle, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(handle)
	var st unix.Stat_t
	if err := unix.Fstat(handle, &st); err != nil {
		return nil, err
	}
	if st.Ino != inode || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil, fs.ErrNotExist
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(handle), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "our end of a pipe"), nil
}
