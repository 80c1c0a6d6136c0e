//go:build linux

package anatomy

import (
	"net/netip"
	"os"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"0100007F:0050":                         "127.0.0.1:80",
		"00000000000000000000000000000000:1F90": "[::]:8080",
		"0000000000000000FFFF00000100007F:0016": "127.0.0.1:22",
		"B80D0120000000000000000001000000:0001": "[2001:db8::1]:1",
	} {
		if got, ok := parseAddress(in); !ok || got.String() != want {
			t.Errorf("%s is %s, %v; want %s", in, got, ok, want)
		}
	}
	for _, bad := range []string{"", ":", "00:0050", "0100007F", "0100007F:x", "0100007G:0050"} {
		if got, ok := parseAddress(bad); ok {
			t.Errorf("%q is taken as %s", bad, got)
		}
	}
}

func TestSocketTakes(t *testing.T) {
	to := netip.MustParseAddrPort("10.0.0.2:80")
	for address, want := range map[string]bool{"0.0.0.0:80": true, "[::]:80": true, "10.0.0.2:80": true, "10.0.0.3:80": false, "0.0.0.0:81": false} {
		if got := (Socket{Protocol: "tcp6", Address: netip.MustParseAddrPort(address)}).takes("tcp", to); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if (Socket{Protocol: "udp", Address: netip.MustParseAddrPort("0.0.0.0:80")}).takes("tcp", to) {
		t.Error("a UDP socket takes TCP")
	}
}

// This process is a process, too.
func TestOfThisProcess(t *testing.T) {
	self := os.Getpid()
	list := processes(self, []int{self, 1 << 22})
	if len(list) != 1 || list[0].Pid != self || list[0].Threads == 0 || list[0].Memory == 0 || list[0].Command == "" {
		t.Errorf("%+v", list)
	}
	if len(mounts(self)) == 0 {
		t.Error("no mounts")
	}
	s, err := security(self)
	if err != nil || s.UID == "" || s.IDMap == "" {
		t.Errorf("%+v, %v", s, err)
	}
	if namespaceInode("self", "mnt") == 0 || namespaceInode("self", "none") != 0 {
		t.Error("inodes of namespaces")
	}
}
