//go:build linux

package busybox

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/testutil"
)

// maxSize is what an archive may add to the program.
const maxSize = 1.5 * 1024 * 1024

func TestProvenanceNamesTheArchives(t *testing.T) {
	p, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "busybox" || p.License != "GPL-2.0-only" || p.Version == "" || p.Source == "" || len(p.Files) < 3 {
		t.Errorf("incomplete: %+v", p)
	}
	patch, err := os.ReadFile("ping.patch")
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(patch)); err != nil || got != p.Files["ping.patch"] {
		t.Errorf("the patch's digest is %s, the recorded one %s; %v", got, p.Files["ping.patch"], err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		data, err := os.ReadFile("busybox_" + arch + ".tar.gz")
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); got != p.RootFSs[arch] {
			t.Errorf("%s: the archive's digest is %s, the recorded one %s", arch, got, p.RootFSs[arch])
		}
		if len(data) > maxSize {
			t.Errorf("%s: %d bytes", arch, len(data))
		}
	}
}

func TestRootFSIsTheOneOfThisArchitecture(t *testing.T) {
	got, err := RootFS()
	want, readErr := os.ReadFile("busybox_" + runtime.GOARCH + ".tar.gz")
	if os.IsNotExist(readErr) {
		if err == nil {
			t.Error("no error without an archive")
		}
		return
	}
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d; %v", len(got), len(want), err)
	}
}

// machine is an unpacked root file system and the emulator, if any, that runs its programs.
type machine struct {
	root     string
	emulator []string
}

// run runs an applet in the root and returns what it wrote to both outputs.
func (m machine) run(applet ...string) (string, error) {
	argv := append(append(append([]string{}, m.emulator...), "/bin/busybox"), applet...)
	cmd := &exec.Cmd{
		Path:        argv[0],
		Args:        argv,
		Dir:         "/",
		Env:         []string{"PATH=/bin"},
		SysProcAttr: &syscall.SysProcAttr{Chroot: m.root},
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func unpack(t *testing.T, arch string) machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("chroot needs root")
	}
	m := machine{root: t.TempDir()}
	if out, err := exec.Command("tar", "-xzf", "busybox_"+arch+".tar.gz", "-C", m.root).CombinedOutput(); err != nil {
		t.Fatalf("unpack: %v: %s", err, out)
	}
	if arch != runtime.GOARCH {
		cpu := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
		emulator, err := os.ReadFile("/usr/bin/qemu-" + cpu + "-static")
		if err != nil {
			t.Skipf("programs for %s need Debian's qemu-user-static: %v", arch, err)
		}
		if err := os.WriteFile(filepath.Join(m.root, "emulator"), emulator, 0o755); err != nil {
			t.Fatal(err)
		}
		m.emulator = []string{"/emulator"}
	}
	return m
}

func TestRootFSWorks(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			m := unpack(t, arch)
			t.Run("applets", func(t *testing.T) { hasApplets(t, m) })
			t.Run("files", func(t *testing.T) { hasFiles(t, m) })
			t.Run("names", func(t *testing.T) { resolvesNames(t, m) })
		})
	}
}

func hasApplets(t *testing.T, m machine) {
	out, err := m.run("--list")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	have := map[string]bool{}
	for _, name := range strings.Fields(out) {
		have[name] = true
		if _, err := os.Stat(filepath.Join(m.root, "bin", name)); err != nil && name != "busybox" {
			t.Errorf("no /bin/%s", name)
		}
	}
	const wanted = "ash awk cat chown cp dd df env find free grep gzip head hostname httpd id ip kill less ls mount " +
		"nc nslookup ping ps sed setsid sh sleep sort stat stty su tail tar tee top tr tty uname vi wc wget xargs yes"
	for _, name := range strings.Fields(wanted) {
		if !have[name] {
			t.Errorf("no applet %s", name)
		}
	}
	if out, err := m.run("sh", "-c", "echo $((6 * 7)) $(id -un)"); m.emulator == nil && (err != nil || out != "42 root\n") {
		t.Errorf("sh: %q, %v", out, err)
	}
	if out, err := m.run("sh", "-c", "set -o | grep -c monitor"); m.emulator == nil && (err != nil || out != "1\n") {
		t.Errorf("sh without job control: %q, %v", out, err)
	}
}

func hasFiles(t *testing.T, m machine) {
	modes := map[string]os.FileMode{
		"tmp": os.ModeDir | os.ModeSticky | 0o777, "root": os.ModeDir | 0o700, "proc": os.ModeDir | 0o755,
		"sys": os.ModeDir | 0o755, "dev": os.ModeDir | 0o755, "etc/passwd": 0o644, "etc/group": 0o644,
		"etc/shadow": 0o640, "bin/busybox": 0o755, "sbin": os.ModeSymlink | 0o777, "usr/bin": os.ModeSymlink | 0o777,
	}
	for name, want := range modes {
		if info, err := os.Lstat(filepath.Join(m.root, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, want %v; %v", name, info, want, err)
		}
	}
	for _, name := range []string{"bin/sh", "usr/bin/env", "sbin/ip"} {
		if target, err := filepath.EvalSymlinks(filepath.Join(m.root, name)); err != nil || filepath.Base(target) != "busybox" {
			t.Errorf("%s is %s; %v", name, target, err)
		}
	}
}

// resolvesNames looks up a name at a real server, in a network namespace that has nothing but loopback.
func resolvesNames(t *testing.T, m machine) {
	resolv := filepath.Join(m.root, "etc/resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	testutil.InNamespaces(t, unix.CLONE_NEWNET, func() {
		loopbackUp(t)
		serveNames(t)
		web := serveHTTP(t)
		if out, err := m.run("nslookup", "peer.test"); err != nil || !strings.Contains(out, "127.0.0.42") {
			t.Errorf("nslookup: %v: %s", err, out)
		}
		if out, err := m.run("nslookup", "missing.test"); err == nil || !strings.Contains(out, "NXDOMAIN") {
			t.Errorf("nslookup of a missing name: %v: %s", err, out)
		}
		if out, err := m.run("wget", "-q", "-O", "-", "http://peer.test:"+web+"/"); err != nil || out != "hello\n" {
			t.Errorf("wget: %v: %s", err, out)
		}
		if out, err := m.run("wget", "-O", "-", "http://missing.test/"); err == nil || !strings.Contains(out, "bad address") {
			t.Errorf("wget of a missing name: %v: %s", err, out)
		}
		if m.emulator != nil {
			return // the emulator knows no raw sockets' options
		}
		if out, err := m.run("ping", "-c", "1", "peer.test"); err != nil || !strings.Contains(out, "1 packets received") {
			t.Errorf("ping: %v: %s", err, out)
		}
		echo := []string{"chroot", m.root, "/bin/busybox", "ping", "-c", "1"}
		if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0); err != nil {
			t.Error(err)
		}
		for _, to := range []string{"127.0.0.1", "::1"} {
			cmd := exec.Command("setpriv", append([]string{"--bounding-set=-net_raw"}, append(echo, to)...)...)
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "seq=0 ttl=64") {
				t.Errorf("ping %s without CAP_NET_RAW: %v: %s", to, err, out)
			}
		}
	})
}

func loopbackUp(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		t.Fatalf("set lo up: %v", err)
	}
}

// serveNames answers queries on 127.0.0.1: peer.test is 127.0.0.42, no other name exists.
func serveNames(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDP(buf)
			if err != nil {
				return
			}
			if reply := answer(buf[:n]); reply != nil {
				_, _ = conn.WriteToUDP(reply, from)
			}
		}
	}()
}

func answer(query []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	m.Response, m.Authoritative = true, true
	switch q := m.Questions[0]; {
	case q.Name.String() != "peer.test.":
		m.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
			Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 42}},
		}}
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// serveHTTP says hello on every address of the namespace and returns the port.
func serveHTTP(t *testing.T) string {
	listener, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "hello")
	})}
	t.Cleanup(func() { server.Close() })
	go func() { _ = server.Serve(listener) }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
