//go:build linux

package test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of a data root whose power is cut while an image is loaded or a container made, each of them is there afterwards and
// whole, or is not there at all; what was finished stays. ext4 itself cuts the power: FS_IOC_SHUTDOWN without flushing
// the log ends all writing at once (fs/ext4/ioctl.c of the kernel, since Linux 4.11), so what nobody has synced is lost.
func TestPowerCuts(t *testing.T) {
	if testing.Short() {
		t.Skip("nothing of it depends on the kernel")
	}
	work := t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	disk, root, archive := work+"/disk", work+"/root", work+"/image.tar"
	must := func(args ...string) string {
		t.Helper()
		out, stderr, code := berth(t, work, args...)
		if code != 0 {
			t.Fatalf("berth %v: %d\n%s%s", args, code, out, stderr)
		}
		return out
	}
	run("truncate", "-s", "64M", disk)
	run("mkfs.ext4", "-q", disk)
	run("mkdir", root)
	mount := func() { run("mount", "-o", "loop", disk, root) }
	mount()
	t.Cleanup(func() { _ = exec.Command("umount", "-l", root).Run() })
	must("run", "--name", "base", "--net", "none", "busybox", "sh", "-c", "for i in $(seq 300); do echo $i > /f$i; done; head -c 2000000 /dev/urandom > /big; sha256sum /big > /sum")
	must("commit", "base", "image")
	must("save", "-o", archive, "image")
	must("rm", "base")
	must("rmi", "-f", "busybox")
	check := []string{"sh", "-c", "sha256sum -c /sum && test $(cat /f300) = 300"}
	again := func() { // the power is back
		run("umount", root)
		mount()
		if out, _, _ := berth(t, work, "doctor", "--store"); regexp.MustCompile(`(?m)^(image|blob|layer|container) `).MatchString(out) {
			t.Errorf("damaged: %s", out)
		}
	}
	load, create := "load -q -i "+archive, "create --name cc --net none image"
	for _, c := range []struct{ appears, command string }{
		{"layers/.new-*/fs/f9", load}, {"layers/[0-9a-f]*", load}, {"images/*.json", load}, {"refs/*/*/*/_tags/*", load}, {"", load},
		{"containers/*/config.json", create}, {"", create},
	} {
		loads := c.command == load
		if loads {
			must("rmi", "-f", "image")
		}
		run("sync", "-f", root)
		cmd := exec.Command(filepath.Join(bin, "berth"), append([]string{"--root", root, "--state", work + "/state"}, strings.Fields(c.command)...)...)
		if !loads {
			cmd.Args = append(cmd.Args, check...)
		}
		cutWhen(t, cmd, root, c.appears)
		again()
		_, _, code := berth(t, work, "inspect", map[bool]string{true: "image", false: "cc"}[loads])
		t.Logf("cut at %q of %s: there is %v", c.appears, c.command, code == 0)
		switch {
		case code != 0 && c.appears == "":
			t.Errorf("what berth %s made is lost", c.command)
		case code == 0 && !loads:
			must("start", "-a", "cc")
			must("rm", "cc")
		case code != 0 && loads:
			must("load", "-q", "-i", archive)
		}
		must(append([]string{"run", "--rm", "--net", "none", "image"}, check...)...)
	}
}

// cutWhen runs a command and cuts the power when a file appears, or as soon as the command has ended well.
func cutWhen(t *testing.T, cmd *exec.Cmd, root, appears string) {
	t.Helper()
	f, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	said := new(bytes.Buffer)
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait(); close(ended) }()
	done := false
	for !done {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(fmt.Errorf("%v: %w: %s", cmd.Args, err, said))
			}
			done = true
		default:
			found, _ := filepath.Glob(filepath.Join(root, appears))
			done = appears != "" && len(found) > 0
			time.Sleep(20 * time.Microsecond)
		}
	}
	const shutdown, withoutLog = 0x8004587d, 2 // FS_IOC_SHUTDOWN, FS_SHUTDOWN_FLAGS_NOLOGFLUSH
	how := uint32(withoutLog)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&how))); e != 0 {
		t.Fatal(e)
	}
	for range ended { // it cannot write any more, and ends
		continue
	}
}
