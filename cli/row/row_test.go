package row

import (
	"net/netip"
	"strings"
	"testing"

	docker "github.com/moby/moby/api/types/container"
)

func TestPorts(t *testing.T) {
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	port := func(ip netip.Addr, public, private uint16, protocol string) docker.PortSummary {
		return docker.PortSummary{IP: ip, PublicPort: public, PrivatePort: private, Type: protocol}
	}
	for want, ports := range map[string][]docker.PortSummary{
		"":                     nil,
		"80/tcp":               {port(netip.Addr{}, 0, 80, "tcp")},
		"0.0.0.0:8080->80/tcp": {port(netip.Addr{}, 8080, 80, "tcp")},
		"80-82/tcp, 81/udp":    {port(netip.Addr{}, 0, 81, "udp"), port(netip.Addr{}, 0, 82, "tcp"), port(netip.Addr{}, 0, 80, "tcp"), port(netip.Addr{}, 0, 81, "tcp")},
		"80/tcp, 82/tcp":       {port(netip.Addr{}, 0, 82, "tcp"), port(netip.Addr{}, 0, 80, "tcp")},
		"[::1]:53->5353/udp":   {port(netip.MustParseAddr("::1"), 53, 5353, "udp")},
		"127.0.0.1:80->80/tcp": {port(netip.MustParseAddr("127.0.0.1"), 80, 80, "tcp")},
		"0.0.0.0:90-91->90-91/tcp, [::]:90-91->90-91/tcp, 443/tcp, 0.0.0.0:8080->80/tcp": {
			port(any4, 8080, 80, "tcp"), port(netip.Addr{}, 0, 443, "tcp"), port(any6, 91, 91, "tcp"), port(any4, 91, 91, "tcp"), port(any4, 90, 90, "tcp"), port(any6, 90, 90, "tcp")},
	} {
		if got := Ports(ports); got != want {
			t.Errorf("%v is %q, want %q", ports, got, want)
		}
	}
}

func TestProcesses(t *testing.T) {
	const output = "UID   PID  PPID CMD\nroot    7     1 sleep 100  200\n-       -     - thread of 7\nroot    8     1 other\n-       -     - thread of 8\nroot    9     1 last\n"
	var b strings.Builder
	if err := Processes(&b, output, []int{7, 9}); err != nil {
		t.Fatal(err)
	}
	want := "UID                 PID                 PPID                CMD\n" +
		"root                7                   1                   sleep 100 200\n" +
		"-                   -                   -                   thread of 7\n" +
		"root                9                   1                   last\n"
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
	if err := Processes(&b, "UID CMD\nroot x\n", nil); err == nil {
		t.Error("no PID is no error")
	}
	if err := Processes(&b, "PID CMD\nx y\n", nil); err == nil {
		t.Error("a PID that is no number is no error")
	}
}

func TestFit(t *testing.T) {
	list := []Container{{ID: "0123456789ab", Image: "registry.example.com/image", Command: `"sleep a long time"`, RunningFor: "1 second ago", Status: "Up 1 second",
		Ports: "0.0.0.0:9000-9002->9000-9002/tcp, 0.0.0.0:8088->80/tcp", Names: "web"}, {Command: `"x"`}}
	width := func(c *Container) int {
		return 15 + len([]rune(c.Image)) + 3 + len([]rune(c.Command)) + 3 + 15 + 14 + max(10, len([]rune(c.Ports))+3) + 5
	}
	was := list[0]
	Fit(list, false, 200)
	if list[0].Ports != was.Ports || list[0].Command != was.Command {
		t.Errorf("where there is room: %+v", list[0])
	}
	for _, columns := range []int{150, 120, 100} {
		Fit(list, false, columns)
		if got := width(&list[0]); got != columns {
			t.Errorf("%d columns of %d: %+v", got, columns, list[0])
		}
	}
	Fit(list, false, 20)
	if list[0].Ports != "0.0.0.0:9…" || list[0].Command != `"sleep a…"` || list[1].Command != `"x"` || list[0].ID != was.ID || list[0].Names != was.Names {
		t.Errorf("where there is none: %+v", list[0])
	}
}
