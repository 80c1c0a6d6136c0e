//go:build linux

package link

import (
	"net/netip"
	"strings"
	"testing"

	docker "github.com/moby/moby/api/types/network"
)

func TestEnvironmentOfALink(t *testing.T) {
	http, _ := docker.PortFrom(80, "tcp")
	names, _ := docker.PortFrom(53, "udp")
	got := Env("web", "my-db", Other{netip.MustParseAddr("10.1.2.3"), docker.PortSet{http: {}, names: {}}, []string{"PASSWORD=a=b", "PATH=/bin", "HOME=/", "x"}})
	want := `MY_DB_NAME=/web/my-db
MY_DB_PORT=udp://10.1.2.3:53
MY_DB_PORT_53_UDP=udp://10.1.2.3:53
MY_DB_PORT_53_UDP_ADDR=10.1.2.3
MY_DB_PORT_53_UDP_PORT=53
MY_DB_PORT_53_UDP_PROTO=udp
MY_DB_PORT_80_TCP=tcp://10.1.2.3:80
MY_DB_PORT_80_TCP_ADDR=10.1.2.3
MY_DB_PORT_80_TCP_PORT=80
MY_DB_PORT_80_TCP_PROTO=tcp
MY_DB_ENV_PASSWORD=a=b`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
}

func TestSplit(t *testing.T) {
	for spec, want := range map[string]string{"db": "db db", "db:x": "db x", "/db:x": "db x", "": "", ":x": "", "db:": "", "db:a b": "", "db:a:b": "", "db:../x": ""} {
		name, alias, ok := Split(spec)
		if got := strings.TrimSpace(name + " " + alias); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v", spec, got, ok)
		}
	}
}
