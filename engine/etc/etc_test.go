//go:build linux

package etc

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-containers/berth/network"
)

func TestHosts(t *testing.T) {
	here := network.Endpoint{Address: netip.MustParsePrefix("172.20.0.2/24"), Gateway: netip.MustParseAddr("172.20.0.1"), Address6: netip.MustParsePrefix("fd00::2/64")}
	h := Hosts{Hostname: "web", Domainname: "example.org", Endpoints: []network.Endpoint{{}, here}, Extra: []string{"up:host-gateway", "six:[2001:db8::1]"}}
	_, own, _ := strings.Cut(h.Text(), "ip6-allrouters\n")
	if want := "172.20.0.2\tweb.example.org web\nfd00::2\tweb.example.org web\n172.20.0.1\tup\n2001:db8::1\tsix\n"; own != want {
		t.Errorf("got %q, want %q", own, want)
	}
	h = Hosts{Hostname: "web", Extra: []string{"up:host-gateway"}}
	if text := h.Text(); !strings.HasSuffix(text, "\n127.0.0.1\tup\n") || strings.Contains(text, "web") {
		t.Errorf("without a network: %q", text)
	}
}

func TestResolver(t *testing.T) {
	r := Resolver{Own: true, Servers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Search: []string{"a.test", "b.test"}, Options: []string{"timeout:1"}}
	if got, want := r.Text(), "nameserver 127.0.0.11\nsearch a.test b.test\noptions timeout:1\n"; got != want {
		t.Errorf("its own resolver: got %q, want %q", got, want)
	}
	r = Resolver{Servers: r.Servers, Search: []string{"."}, Options: []string{"ndots:2"}}
	if got, want := r.Text(), "nameserver 192.0.2.1\noptions ndots:2\n"; got != want {
		t.Errorf("the user's servers: got %q, want %q", got, want)
	}
}

func TestOnlyLoopback(t *testing.T) {
	for conf, want := range map[string]bool{
		"nameserver 127.0.0.53\noptions edns0\n":             true,
		"nameserver 127.0.0.53\nnameserver 192.0.2.1\n":      false,
		"nameserver ::1\n# nameserver 192.0.2.1\nsearch a\n": true,
		"search a\n": false,
	} {
		if got := onlyLoopback(conf); got != want {
			t.Errorf("%q: %v", conf, got)
		}
	}
}
