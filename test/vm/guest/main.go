//go:build linux

// Command guest is process 1 of the virtual machine that test/vm/run starts: it makes a system out of the host's files
// (read only, below a writable overlay), a disk and a pure cgroup v2 hierarchy, runs one command and powers off.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// config is what run wrote into the initial file system.
type config struct {
	Argv []string
	Env  []string
	Dir  string
}

// patience bounds each wait for a device; an emulated machine on a busy host is slow.
const patience = 60 * time.Second

func main() {
	fmt.Println("guest: up")
	status, err := run()
	if err != nil {
		fmt.Println("guest:", err) // on the console, which run shows when there is no status
	} else {
		fmt.Println("guest: exit", status)
	}
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("guest: power off:", err)
	}
	select {}
}

func run() (status int, err error) {
	var c config
	data, err := os.ReadFile("/config.json")
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return 0, err
	}
	if err := loadModules("/modules"); err != nil {
		return 0, err
	}
	if err := mountAll(early); err != nil {
		return 0, err
	}
	if err := await("the disk", func() bool { _, err := os.Stat("/dev/vda"); return err == nil }); err != nil {
		return 0, err
	}
	if err := makeRoot(); err != nil {
		return 0, err
	}
	output, err := port("output")
	if err != nil {
		return 0, err
	}
	report, err := port("status")
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintln(report, "started"); err != nil {
		return 0, err
	}
	if status, err = command(c, output); err != nil {
		fmt.Fprintln(output, "guest:", err)
		status = 127
	}
	_, err = fmt.Fprintln(report, "exit", status)
	return status, err
}

// loadModules loads every module of a folder, in the order of their names: run numbered them by their needs.
func loadModules(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return err
	}
	sort.Strings(names)
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

func await(what string, there func() bool) error {
	for end := time.Now().Add(patience); !there(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s did not appear", what)
		}
	}
	return nil
}

// port opens a virtio port by the name that run gave it.
func port(name string) (f *os.File, err error) {
	err = await("port "+name, func() bool {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, n := range names {
			if text, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(text)) == name {
				f, err = os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
				return err == nil
			}
		}
		return false
	})
	return f, err
}

// command runs the command and waits for it, and meanwhile reaps every orphan, as process 1 must.
func command(c config, output io.Writer) (status int, err error) {
	// A pipe, not the port itself: a port can be opened once, and programs open /dev/stdout.
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	copied := make(chan struct{})
	go func() { defer close(copied); _, _ = io.Copy(output, r) }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	program := c.Argv[0]
	if !strings.Contains(program, "/") {
		for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
			if unix.Access(filepath.Join(dir, program), unix.X_OK) == nil {
				program = filepath.Join(dir, program)
				break
			}
		}
	}
	p, err := os.StartProcess(program, c.Argv, &os.ProcAttr{
		Dir: c.Dir, Env: append(os.Environ(), c.Env...), Files: []*os.File{null, w, w},
		Sys: &unix.SysProcAttr{Setsid: true},
	})
	w.Close()
	if err != nil {
		return 0, err
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case pid != p.Pid:
			continue
		case ws.Signaled():
			status = 128 + int(ws.Signal())
		default:
			status = ws.ExitStatus()
		}
		break
	}
	select { // what is left in the pipe, unless a process that the command left behind holds it open
	case <-copied:
	case <-time.After(5 * time.Second):
	}
	return status, nil
}
