//go:build linux

package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-containers/berth/internal/errs"
)

func TestInstallAndUninstall(t *testing.T) {
	s := Systemd{Root: t.TempDir()}
	if err := s.Install("/usr/bin/berth", "/var/lib/berth", "/run/berth"); !errs.Is(err, errs.Unsupported) || !strings.Contains(errs.HintOf(err), "/usr/bin/berth boot") {
		t.Errorf("without systemd: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(s.Root, "etc/systemd"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time changes nothing
		if err := s.Install("/usr/bin/berth", "/srv/my \"root\"", "/run/berth"); err != nil || !s.Installed() {
			t.Fatalf("%v, installed: %v", err, s.Installed())
		}
	}
	text, err := os.ReadFile(s.unit())
	if err != nil || !strings.Contains(string(text), "ExecStart=/usr/bin/berth --root \"/srv/my \\\"root\\\"\" boot\n") || !strings.Contains(string(text), "\nExecStop=/usr/bin/berth --root") {
		t.Errorf("%s, %v", text, err)
	}
	for range 2 {
		if err := s.Uninstall(); err != nil || s.Installed() {
			t.Errorf("%v", err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.Root, "etc/systemd/system/*.service")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
