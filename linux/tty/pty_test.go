//go:build linux

package tty

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// A test that needs a process of its own runs this program again.
func TestMain(m *testing.M) {
	switch os.Getenv("TTY_TEST_PART") {
	case "":
		os.Exit(m.Run())
	case "session leader":
		if err := TakeControl(os.Stdin); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		tty, err := os.OpenFile("/dev/tty", os.O_WRONLY, 0)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Fprintln(tty, "mine")
		for {
			_ = unix.Pause() // until Ctrl-C
		}
	}
}

// devpts is a fresh instance that is mounted nowhere: the test's ptys are its own, and nothing is left of it.
func devpts(t *testing.T) *os.File {
	t.Helper()
	fs, err := unix.Fsopen("devpts", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "ptmxmode", "0666"); err != nil {
		t.Fatal(err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "devpts")
	t.Cleanup(func() { f.Close() })
	return f
}

func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, slave, err := Open(devpts(t), 80, 24)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

func readLine(t *testing.T, f *os.File) string {
	t.Helper()
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := f.Read(b); err != nil {
			t.Fatalf("after %q: %v", line, err)
		}
		if line = append(line, b[0]); b[0] == '\n' {
			return string(line)
		}
	}
}

func TestOpenConnectsBothEnds(t *testing.T) {
	dir := devpts(t)
	master, slave, err := Open(dir, 132, 43)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if _, err := slave.WriteString("out\n"); err != nil {
		t.Fatal(err)
	}
	if got := readLine(t, master); got != "out\r\n" {
		t.Errorf("the master reads %q", got)
	}
	if _, err := master.WriteString("in\n"); err != nil {
		t.Fatal(err)
	}
	if got := readLine(t, slave); got != "in\n" {
		t.Errorf("the slave reads %q", got)
	}
	if w, h, err := GetSize(slave); w != 132 || h != 43 || err != nil {
		t.Errorf("size %dx%d, %v", w, h, err)
	}
	if slave.Name() != "/dev/pts/0" {
		t.Errorf("the first pty of an instance is %s", slave.Name())
	}
	var of, in unix.Stat_t
	if err := errors.Join(unix.Fstat(int(dir.Fd()), &in), unix.Fstat(int(slave.Fd()), &of)); err != nil || of.Dev != in.Dev {
		t.Errorf("the slave is of devpts %x, not %x; %v", of.Dev, in.Dev, err)
	}
}

// What a container can put where ptmx belongs must not be taken for it.
func TestOpenRefusesWhatIsNoPtmx(t *testing.T) {
	dir := t.TempDir()
	at, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	ptmx := filepath.Join(dir, "ptmx")
	for what, plant := range map[string]func() error{
		"a link to the real one":       func() error { return os.Symlink("/dev/ptmx", ptmx) },
		"a file":                       func() error { return os.WriteFile(ptmx, nil, 0o666) },
		"another device":               func() error { return unix.Mknod(ptmx, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) },
		"the device outside of devpts": func() error { return unix.Mknod(ptmx, unix.S_IFCHR|0o666, int(unix.Mkdev(5, 2))) },
	} {
		if err := plant(); err != nil {
			t.Fatal(err)
		}
		if master, slave, err := Open(at, 80, 24); err == nil {
			t.Errorf("%s was opened as a pty", what)
			master.Close()
			slave.Close()
		}
		if err := os.Remove(ptmx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTakeControlGivesCtrlC(t *testing.T) {
	master, slave := pty(t)
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), "TTY_TEST_PART=session leader")
	c.Stdin = slave
	var said strings.Builder
	c.Stdout = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	heard := make(chan string, 1)
	go func() { heard <- readUntil(master, "mine\r\n") }()
	select {
	case got := <-heard:
		if got != "mine\r\n" {
			t.Errorf("/dev/tty is another terminal: %q", got)
		}
	case err := <-ended:
		t.Fatalf("it ended too early: %v, %s", err, said.String())
	}
	if _, err := master.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	var ee *exec.ExitError
	if err := <-ended; !errors.As(err, &ee) || ee.Sys().(syscall.WaitStatus).Signal() != unix.SIGINT {
		t.Errorf("Ctrl-C ended it with %v", err)
	}
}

// readUntil reads up to a text or the end.
func readUntil(f *os.File, text string) string {
	var got []byte
	for b := make([]byte, 64); !strings.HasSuffix(string(got), text); {
		n, err := f.Read(b)
		got = append(got, b[:n]...)
		if err != nil {
			break
		}
	}
	return string(got)
}

func TestRawAndBack(t *testing.T) {
	_, slave := pty(t)
	get := func() unix.Termios {
		t.Helper()
		s, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return *s
	}
	before := get()
	s, err := MakeRaw(slave)
	if err != nil {
		t.Fatal(err)
	}
	if raw := get(); raw.Lflag&(unix.ECHO|unix.ICANON|unix.ISIG) != 0 || raw.Oflag&unix.OPOST != 0 || raw.Iflag&unix.ICRNL != 0 {
		t.Errorf("not raw: %+v", raw)
	}
	if err := SetOutput(slave, unix.OPOST, unix.ONLCR); err != nil || get().Oflag&(unix.OPOST|unix.ONLCR) != unix.OPOST {
		t.Errorf("output modes %x, %v", get().Oflag, err)
	}
	for range 2 {
		if err := s.Restore(); err != nil {
			t.Fatal(err)
		}
	}
	if after := get(); after != before {
		t.Errorf("restored to %+v, was %+v", after, before)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if s, err := MakeRaw(null); err == nil || s.Restore() != nil || IsTerminal(null) {
		t.Error("/dev/null is a terminal")
	}
}

func TestWatchSizeFollowsTheWindow(t *testing.T) {
	master, slave := pty(t)
	seen := make(chan [2]uint16, 8)
	stop := WatchSize(slave, func(w, h uint16) { seen <- [2]uint16{w, h} })
	if got := <-seen; got != [2]uint16{80, 24} {
		t.Errorf("at first %v", got)
	}
	for _, want := range [][2]uint16{{100, 30}, {40, 10}} {
		if err := SetSize(master, want[0], want[1]); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != want {
			t.Errorf("changed to %v, want %v", got, want)
		}
	}
	stop()
	stop()
	if len(seen) != 0 {
		t.Errorf("also seen: %v", <-seen)
	}
}

func TestOpenOnTheHost(t *testing.T) {
	var fs unix.Statfs_t
	if err := unix.Statfs("/dev/pts", &fs); err != nil || fs.Type != unix.DEVPTS_SUPER_MAGIC {
		t.Skip("no devpts at /dev/pts")
	}
	master, slave, err := Open(nil, 80, 24)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	if !IsTerminal(slave) {
		t.Error("the slave is no terminal")
	}
	if _, _, err := Open(master, 80, 24); err == nil || errs.KindOf(err) != errs.Internal {
		t.Errorf("a terminal passed for a folder: %v", err)
	}
}
