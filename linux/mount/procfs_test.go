//go:build linux

package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/testutil"
)

func openProcfs(t *testing.T) *Procfs {
	t.Helper()
	p, err := OpenProcfs()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestProcfsFollowsNoMagicLinks(t *testing.T) {
	p := openProcfs(t)
	for _, name := range []string{"self/exe", "self/cwd", "self/root/etc", "self/fd/0", "self/../version", "../etc/passwd", "net/dev", "mounts"} {
		if f, err := p.Open(name, unix.O_RDONLY); err == nil {
			f.Close()
			t.Errorf("%s was opened", name)
		}
	}
	for _, name := range []string{"thread-self/status", "self/status", "sys/kernel/ostype", "version", "thread-self/attr"} {
		f, err := p.Open(name, unix.O_RDONLY)
		if err != nil {
			t.Error(err)
			continue
		}
		f.Close()
	}
	if _, err := p.Open("self/none", unix.O_RDONLY); !errors.Is(err, unix.ENOENT) {
		t.Errorf("what is not there: %v", err)
	}
	if err := p.Write("thread-self/comm", "renamed"); err != nil {
		t.Error(err)
	}
}

// What is mounted over a file of procfs, over a folder on the way, or over all of it catches nothing: the write
// arrives in the kernel (CVE-2019-16884, CVE-2025-52881).
func TestWritesArriveBehindMounts(t *testing.T) {
	dir := t.TempDir()
	fake := filepath.Join(dir, "fake")
	write(t, fake, "")
	for what, cover := range map[string]func() error{
		"nothing":              func() error { return nil },
		"a file over the file": func() error { return unix.Mount(fake, "/proc/sys/kernel/domainname", "", unix.MS_BIND, "") },
		"another file of procfs": func() error {
			return unix.Mount("/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname", "", unix.MS_BIND, "")
		},
		"a tmpfs over a folder": func() error { return unix.Mount("tmpfs", "/proc/sys/kernel", "tmpfs", 0, "") },
		"a tmpfs over all":      func() error { return unix.Mount("tmpfs", "/proc", "tmpfs", 0, "") },
		"a part of it over all": func() error { return unix.Mount("/proc/sys", "/proc", "", unix.MS_BIND, "") },
	} {
		t.Run(what, func(t *testing.T) {
			testutil.InNamespaces(t, unix.CLONE_NEWNS|unix.CLONE_NEWUTS, func() {
				if err := cover(); err != nil {
					t.Fatal(err)
				}
				var before, after unix.Utsname
				if err := unix.Uname(&before); err != nil {
					t.Fatal(err)
				}
				if err := openProcfs(t).SetSys("kernel.domainname", "arrived", "test"); err != nil {
					t.Fatal(err)
				}
				if err := unix.Uname(&after); err != nil {
					t.Fatal(err)
				}
				if got := unix.ByteSliceToString(after.Domainname[:]); got != "arrived" {
					t.Errorf("the domain name is %q", got)
				}
				if before.Nodename != after.Nodename {
					t.Errorf("the host name is %q now", unix.ByteSliceToString(after.Nodename[:]))
				}
			})
		})
	}
	if got := read(t, fake); got != "" {
		t.Errorf("the fake was written: %q", got)
	}
}

func TestProcfsAtChecksWhatItGets(t *testing.T) {
	for _, path := range []string{t.TempDir(), "/proc/sys", "/proc/self"} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ProcfsAt(f); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s passed for /proc: %v", path, err)
		}
	}
	tree, err := Filesystem("proc", "proc", Options{Data: []string{"subset=pid"}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ProcfsAt(tree.File())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if f, err := p.Open("self/status", unix.O_RDONLY); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
}

func TestSysPath(t *testing.T) {
	for name, want := range map[string]string{
		"net.ipv4.ip_forward":                "sys/net/ipv4/ip_forward",
		"net/ipv4/ip_forward":                "sys/net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/1.forwarding":    "sys/net/ipv4/conf/eth0.1/forwarding",
		"net/ipv4/conf/eth0.1/forwarding":    "sys/net/ipv4/conf/eth0.1/forwarding",
		"fs.mqueue.msg_max":                  "sys/fs/mqueue/msg_max",
		"net.ipv6.conf.wlp3s0@if7.accept_ra": "sys/net/ipv6/conf/wlp3s0@if7/accept_ra",
	} {
		if got, err := SysPath(name); got != want || err != nil {
			t.Errorf("%s is %s, %v; want %s", name, got, err, want)
		}
	}
	for _, name := range []string{"", ".", "..", "/", "a..b", "net/../kernel/core_pattern", "kernel.shm_rmid_forced+kernel.core_pattern",
		"a b", "a\x00b", "a\n", "/etc", "net.", "./x", "a=b"} {
		if got, err := SysPath(name); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q is %q, %v", name, got, err)
		}
	}
	p := openProcfs(t)
	if err := p.SetSys("kernel.no_such_parameter", "1", "test"); !errs.Is(err, errs.Unsupported) || !strings.Contains(err.Error(), "no_such") {
		t.Errorf("a parameter that is not there: %v", err)
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, "content")
	h := handle(t, path)
	if err := os.Rename(path, path+"-moved"); err != nil {
		t.Fatal(err)
	}
	f, err := Reopen(h, unix.O_WRONLY|unix.O_TRUNC)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got := read(t, path+"-moved"); got != "" {
		t.Errorf("not truncated: %q", got)
	}
}
