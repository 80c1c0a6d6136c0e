//go:build linux

package test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// user is somebody at a terminal.
type user struct {
	t      *testing.T
	screen *os.File
	cmd    *exec.Cmd
	mu     sync.Mutex
	seen   bytes.Buffer
	read   chan struct{}
}

// sit starts a command at a new terminal.
func sit(t *testing.T, root string, args ...string) *user {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "berth"), append([]string{"--root", root + "/root", "--state", root + "/state"}, args...)...)
	screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 33, Cols: 99})
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t: t, screen: screen, cmd: cmd, read: make(chan struct{})}
	go func() {
		defer close(u.read)
		buf := make([]byte, 4096)
		for {
			n, err := screen.Read(buf)
			u.mu.Lock()
			u.seen.Write(buf[:n])
			u.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		screen.Close()
	})
	return u
}

func (u *user) types(keys string) {
	u.t.Helper()
	if _, err := u.screen.WriteString(keys); err != nil {
		u.t.Fatal(err)
	}
}

func (u *user) text() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen.String()
}

// sees waits until something is on the screen.
func (u *user) sees(what string) {
	u.t.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(u.text(), what) {
			return
		}
	}
	u.t.Fatalf("no %q on the screen:\n%s", what, u.text())
}

// eventuallyRaw waits until the command has made the terminal raw: until then it does what terminals do with keys.
func eventuallyRaw(u *user) {
	u.t.Helper()
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		attr, err := unix.IoctlGetTermios(int(u.screen.Fd()), unix.TCGETS)
		if err == nil && attr.Lflag&unix.ICANON == 0 {
			return
		}
	}
	u.t.Fatal("the terminal is not raw")
}

// leaves waits for the end of the command.
func (u *user) leaves() int {
	u.t.Helper()
	<-u.read
	_ = u.cmd.Wait()
	return u.cmd.ProcessState.ExitCode()
}

// A shell at a real terminal: it has job control, knows the window, and Ctrl-C reaches what runs in it.
func TestShellAtATerminal(t *testing.T) {
	root := newRoot(t)
	u := sit(t, root, "run", "-ti", "--rm", "--net", "none", "/bin/sh")
	u.sees("# ")
	u.types("stty size; tty\n")
	u.sees("33 99")
	u.sees("/dev/pts/0")
	if err := pty.Setsize(u.screen, &pty.Winsize{Rows: 44, Cols: 111}); err != nil {
		t.Fatal(err)
	}
	u.types("until stty size | grep '44 111'; do sleep 0.05; done\n")
	u.sees("\n44 111")
	u.types("sh -c 'echo up$((1+1)); exec sleep 1000'\n")
	u.sees("up2")
	u.types("\x03")
	u.types("echo after$((1+1))\n")
	u.sees("after2")
	u.types("sleep 1000 &\njobs\n")
	u.sees("Running")
	u.types("exit 7\n")
	if code := u.leaves(); code != 7 {
		t.Errorf("exit status %d", code)
	}
}

// The keys that leave a container leave it running; one can come back.
func TestDetachAndAttach(t *testing.T) {
	root := newRoot(t)
	u := sit(t, root, "run", "-ti", "--name", "c1", "--net", "none", "/bin/sh")
	u.sees("# ")
	u.types("A=remembered; echo set\n")
	u.sees("\r\nset")
	u.types("\x10\x11")
	if code := u.leaves(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	out, _, _ := berth(t, root, "ps", "--format", "{{.Names}}")
	if out != "c1\n" {
		t.Errorf("running: %q", out)
	}
	u = sit(t, root, "attach", "--detach-keys", "ctrl-a,x", "c1")
	eventuallyRaw(u)
	u.types("echo $A again\n")
	u.sees("remembered again")
	u.types("\x01x")
	u.leaves()
	if _, errOut, code := berth(t, root, "rm", "-f", "c1"); code != 0 {
		t.Errorf("rm: %s", errOut)
	}
}

// A terminal is not needed for -t alone, and the caller's is as before afterwards.
func TestTerminalIsRestored(t *testing.T) {
	root := newRoot(t)
	u := sit(t, root, "run", "-ti", "--rm", "--net", "none", "/bin/true")
	u.leaves()
	out, errOut, code := berth(t, root, "run", "-t", "--rm", "--net", "none", "/bin/tty")
	if code != 0 || out != "/dev/pts/0\r\n" {
		t.Errorf("%q, %q, %d", out, errOut, code)
	}
}

// Signals to the command line go to the container's program.
func TestSignalsAreProxied(t *testing.T) {
	root := newRoot(t)
	cmd := exec.Command(filepath.Join(bin, "berth"), "--root", root+"/root", "--state", root+"/state", "run", "--rm", "--net", "none", "/bin/sh", "-c",
		"trap 'echo caught; exit 9' TERM; echo ready; while true; do sleep 0.05; done")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	buf := make([]byte, 100)
	if n, err := r.Read(buf); err != nil || string(buf[:n]) != "ready\n" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n, _ := r.Read(buf)
	_ = cmd.Wait()
	if string(buf[:n]) != "caught\n" || cmd.ProcessState.ExitCode() != 9 {
		t.Errorf("%q, exit status %d", buf[:n], cmd.ProcessState.ExitCode())
	}
}

// login asks for what is not given, shows no password, and leaves the terminal as it was.
func TestLoginAsks(t *testing.T) {
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, password, _ := r.BasicAuth(); name != "anna" || password != "open sesame" {
			w.Header().Set("WWW-Authenticate", `Basic realm="here"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer registry.Close()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	u := sit(t, dir, "login", strings.TrimPrefix(registry.URL, "http://"))
	u.sees("Username: ")
	u.types("anna\r")
	u.sees("Password: ")
	u.types("open sesame\r")
	u.sees("Login Succeeded")
	if err := u.cmd.Wait(); err != nil || strings.Contains(u.text(), "sesame") {
		t.Errorf("%v; on the screen:\n%s", err, u.text())
	}
	if _, err := os.Stat(filepath.Join(dir, ".docker/config.json")); err != nil {
		t.Error(err)
	}
	u = sit(t, dir, "login", "-u", "anna", strings.TrimPrefix(registry.URL, "http://"))
	u.sees("Password: ")
	u.types("\x03")
	u.sees("berth: login: ")
	if err := u.cmd.Wait(); err == nil {
		t.Error("an interrupted login succeeds")
	}
	if state, err := unix.IoctlGetTermios(int(u.screen.Fd()), unix.TCGETS); err != nil || state.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal shows nothing any more: %v", err)
	}
}
