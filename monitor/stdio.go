//go:build linux

package monitor

import (
	"encoding/json"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/tty"
)

// stdio is our side of a process's standard streams: pipes, or the master of its terminal.
type stdio struct {
	stdin   *os.File   // the program's input; nil without
	theirs  []*os.File // the process's ends: stdin, stdout, stderr; closed once it has them
	outputs []output
	tty     *os.File

	inputOnce sync.Once
	copied    sync.WaitGroup
}

type output struct {
	kind byte
	from *os.File
}

// pipes are the inode numbers of the pipes of standard output and standard error.
type pipes [2]uint64

// pipe makes a pipe of which only our end never blocks: the other is the container's, and programs expect blocking ones.
func pipe(oursReads bool) (ours, theirs *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	mine, other := p[1], p[0]
	if oursReads {
		mine, other = p[0], p[1]
	}
	err = unix.SetNonblock(mine, true)
	return os.NewFile(uintptr(mine), "our end of a pipe"), os.NewFile(uintptr(other), "the container's end of a pipe"), err
}

// lastingPipe is a pipe for output whose writer is a reader, too: without us it waits when the pipe is full, and is not
// ended by SIGPIPE (pipe(7)). inode is how it is found again.
func lastingPipe() (ours, theirs *os.File, inode uint64, err error) {
	ours, theirs, err = pipe(true)
	if err != nil {
		return nil, nil, 0, err
	}
	defer theirs.Close()
	var st unix.Stat_t
	if err = unix.Fstat(int(theirs.Fd()), &st); err == nil {
		var fd int
		if fd, err = unix.Open("/proc/self/fd/"+strconv.Itoa(int(theirs.Fd())), unix.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
			return ours, os.NewFile(uintptr(fd), "the container's end of a pipe"), st.Ino, nil
		}
	}
	ours.Close()
	return nil, nil, 0, err
}

// openPipes makes the streams of a process without a terminal. Without input it reads /dev/null.
func openPipes(input bool) (s *stdio, found pipes, err error) {
	s = &stdio{theirs: make([]*os.File, 3)}
	if input {
		if s.stdin, s.theirs[0], err = pipe(false); err != nil {
			return nil, found, errs.Wrap("make pipe", err)
		}
	}
	for i, kind := range []byte{frameStdout, frameStderr} {
		ours, theirs, inode, err := lastingPipe()
		if err != nil {
			s.close()
			return nil, found, errs.Wrap("make pipe", err)
		}
		s.theirs[1+i], found[i] = theirs, inode
		s.outputs = append(s.outputs, output{kind, ours})
	}
	return s, found, nil
}

// useTerminal takes the master of a terminal for input and output.
func (s *stdio) useTerminal(master *os.File) error {
	// Two descriptors of our own: one end can be closed while the other is read.
	fd, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return errs.Wrap("use terminal", err)
	}
	s.tty = os.NewFile(uintptr(fd), "terminal")
	s.stdin = s.tty
	s.outputs = []output{{frameStdout, s.tty}}
	return nil
}

// handedOver closes the process's ends here.
func (s *stdio) handedOver() {
	for i, f := range s.theirs {
		if f != nil {
			f.Close()
		}
		s.theirs[i] = nil
	}
}

// copyTo gives all output to a function until the last holder of the other end is gone.
func (s *stdio) copyTo(take func(kind byte, b []byte)) {
	for _, o := range s.outputs {
		s.copied.Go(func() {
			b := frame(32 << 10)
			for {
				n, err := o.from.Read(b[headerSize:])
				if n > 0 {
					take(o.kind, b[:headerSize+n])
				}
				if err != nil {
					return // io.EOF, or EIO of a terminal that no process has open any more
				}
			}
		})
	}
}

// drain waits for the rest of the output, but not for ever: a process outside of the container may hold an end. After
// each time of patience slow says whether there is a reader to wait for; nil is none.
func (s *stdio) drain(patience time.Duration, slow func() bool) {
	done := make(chan struct{})
	go func() {
		s.copied.Wait()
		close(done)
	}()
	for over := false; !over; {
		timer := time.NewTimer(patience)
		select {
		case <-done:
			over = true
		case <-timer.C:
			over = slow == nil || !slow()
		}
		timer.Stop()
	}
	for _, o := range s.outputs {
		_ = o.from.SetReadDeadline(time.Unix(1, 0))
	}
	<-done
	s.close()
}

// write gives input to the process. Without one it is lost, as in a shell's "program </dev/null".
func (s *stdio) write(b []byte) {
	if s.stdin != nil {
		_, _ = s.stdin.Write(b)
	}
}

// endInput tells the process that no more comes. A terminal has no such end but the one that is typed.
func (s *stdio) endInput() {
	if s.stdin != nil && s.tty == nil {
		s.inputOnce.Do(func() { s.stdin.Close() })
	}
}

func (s *stdio) close() {
	s.handedOver()
	s.endInput()
	for _, o := range s.outputs {
		o.from.Close()
	}
}

// readInput gives what a client sends to the program whose streams io returns, until the client leaves; nil is no
// program. With once its leaving ends the input.
func (c *Conn) readInput(r Request, once bool, io func() *stdio) {
	buf := make([]byte, 4096)
	for {
		kind, payload, err := c.receive(buf)
		if err != nil {
			break
		}
		s := io()
		if s == nil {
			continue
		}
		switch {
		case kind == frameStdin && r.Stdin:
			s.write(payload)
		case kind == frameStdinEnd && r.Stdin && once:
			s.endInput()
		case kind == frameResize:
			var size Size
			if json.Unmarshal(payload, &size) == nil {
				s.resize(&size)
			}
		}
	}
	if s := io(); s != nil && r.Stdin && once {
		s.endInput()
	}
}

// resize tells the terminal, if there is one, its size.
func (s *stdio) resize(size *Size) {
	if s.tty != nil && size != nil {
		_ = tty.SetSize(s.tty, size.Width, size.Height)
	}
}

// hub sends the container's output to everybody who is attached.
type hub struct {
	sync.Mutex
	clients map[*Conn]Request
	sending map[*Conn]int // to these something is being sent; more than a moment if they are slow
	ended   bool
}

// add attaches somebody; false when the container has ended.
func (h *hub) add(c *Conn, r Request) bool {
	h.Lock()
	defer h.Unlock()
	if h.ended {
		return false
	}
	if h.clients == nil {
		h.clients = map[*Conn]Request{}
	}
	h.clients[c] = r
	return true
}

func (h *hub) drop(c *Conn) {
	h.Lock()
	defer h.Unlock()
	delete(h.clients, c)
}

// send sends a frame to those who want it. One who went away is forgotten; one who is slow slows the container down,
// because output must not be lost and cannot be kept.
func (h *hub) send(kind byte, b []byte) {
	h.Lock()
	var to []*Conn
	for c, r := range h.clients {
		if kind == frameStdout && r.Stdout || kind == frameStderr && r.Stderr {
			to = append(to, c)
			if h.sending == nil {
				h.sending = map[*Conn]int{}
			}
			h.sending[c]++
		}
	}
	h.Unlock()
	for _, c := range to {
		err := c.sendFrame(kind, b)
		h.sent(c)
		if err != nil {
			h.drop(c)
			c.Close() // it may have got half a frame
		}
	}
}

func (h *hub) sent(c *Conn) {
	h.Lock()
	defer h.Unlock()
	if h.sending[c]--; h.sending[c] == 0 {
		delete(h.sending, c)
	}
}

// slow reports whether somebody is being waited for.
func (h *hub) slow() bool {
	h.Lock()
	defer h.Unlock()
	return len(h.sending) > 0
}

// hurry gives up those who are being waited for.
func (h *hub) hurry() {
	h.Lock()
	defer h.Unlock()
	for c := range h.sending {
		_ = c.f.SetWriteDeadline(time.Unix(1, 0))
	}
}

// end tells everybody how the container ended.
func (h *hub) end(exit *Exit) {
	h.Lock()
	defer h.Unlock()
	for c := range h.clients {
		_ = c.f.SetWriteDeadline(time.Now().Add(time.Second)) // one that has stopped must not keep us
		_ = c.sendJSON(frameEnd, exit)
		c.Close()
	}
	h.clients, h.ended = nil, true
}
