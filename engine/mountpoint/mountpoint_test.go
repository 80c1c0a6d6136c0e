//go:build linux

package mountpoint

import (
	"strings"
	"testing"
)

func TestParseBind(t *testing.T) {
	for spec, want := range map[string]string{
		"/a:/b": "bind /a /b true", "/a:/b:ro": "bind /a /b false", "v:/b": "volume v /b true", "v:/b:ro,nocopy": "volume v /b false",
		"/b": "volume  /b true", "a:b": "", "/a:/": "", "/a:/b:xx": "", "a:b:c:d": "", "rel": "",
	} {
		m, err := ParseBind(spec)
		got := ""
		if err == nil {
			got = strings.Join([]string{string(m.Type), m.Name + m.Source, m.Destination, map[bool]string{true: "true", false: "false"}[m.RW]}, " ")
		}
		if got != want {
			t.Errorf("%s: %q, %v; want %q", spec, got, err, want)
		}
	}
}
