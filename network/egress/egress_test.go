//go:build linux

package egress

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/berth-containers/berth/internal/errs"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"none":                      "[] [] [] false",
		"learn":                     "[] [] [] true",
		"10.1.2.3,10.2.0.0/16":      "[10.1.2.3/32 10.2.0.0/16] [] [] false",
		"10.1.2.3:80,[fd00::1]:443": "[] [10.1.2.3:80 [fd00::1]:443] [] false",
		"fd00::1,[fd00::2]":         "[fd00::1/128 fd00::2/128] [] [] false",
		"DB:5432, *.Example.org":    "[] [] [{db false 5432} {example.org true 0}] false",
		"10.9.9.9/8":                "[10.0.0.0/8] [] [] false",
		"none,db":                   "", "": "", "a b": "", "*": "", "*.": "", "a:0": "", "a:70000": "", "a.*.org": "", "http://x": "", "..": "", "a/b": "",
	} {
		p, err := Parse([]string{text})
		if want == "" {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%q: %+v, %v", text, p, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if got := fmt.Sprint(p.Networks, p.Ports, p.Names, p.Learn); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestLANHoldsNoSecrets(t *testing.T) {
	p, err := Parse([]string{"lan"})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{"192.168.1.1": true, "10.0.0.1": true, "fd00::1": true, "169.254.169.254": false, "8.8.8.8": false, "127.0.0.1": false} {
		got := false
		for _, n := range p.Networks {
			got = got || n.Contains(netip.MustParseAddr(address))
		}
		if got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func TestMergedRangesDoNotOverlap(t *testing.T) {
	var ps []netip.Prefix
	for _, s := range strings.Fields("10.1.0.0/16 10.0.0.0/8 10.1.2.3/32 10.0.0.0/8 255.255.255.255/32 192.0.2.0/24 fd00::/8 fd00:1::/32") {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	want := "[10.0.0.0 to 11.0.0.0 192.0.2.0 to 192.0.3.0 255.255.255.255 to invalid IP fd00:: to fe00::]"
	if got := fmt.Sprint(merged(ps)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("lan,db:80,*.x.org,10.0.0.0/8,[::1]:5")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := Parse([]string{s}); err == nil {
			_ = merged(p.Networks)
			for _, n := range p.Names {
				if n.Name == "" || strings.ContainsAny(n.Name, "/*\x00 ") {
					t.Errorf("%q gives the name %q", s, n.Name)
				}
			}
		}
	})
}
