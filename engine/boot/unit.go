//go:build linux

package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
)

// UnitName is the one unit of systemd's that Berth has.
const UnitName = "berth.service"

// Systemd is where the host's systemd reads units. Root is "/" but in tests.
type Systemd struct{ Root string }

func (s Systemd) unit() string { return filepath.Join(s.Root, "etc/systemd/system", UnitName) }

// wants is the link that makes the unit part of the host's start (systemd.unit(5), "WantedBy=").
func (s Systemd) wants() string {
	return filepath.Join(s.Root, "etc/systemd/system/multi-user.target.wants", UnitName)
}

// There reports whether systemd is this host's init (sd_booted(3)).
func (s Systemd) There() bool {
	fi, err := os.Lstat(filepath.Join(s.Root, "run/systemd/system"))
	return err == nil && fi.IsDir()
}

// Installed reports whether the host starts Berth's containers.
func (s Systemd) Installed() bool {
	_, err := os.Stat(s.wants())
	return err == nil
}

// Unit is the unit's text, for the engine of these folders. Monitors and containers belong to no unit: they stay when
// this one has done its work, and `boot stop` ends them in time.
func Unit(program, root, state string) string {
	command := program
	if root != engine.DefaultRoot {
		command += " --root " + quote(root)
	}
	if state != engine.DefaultState {
		command += " --state " + quote(state)
	}
	return `[Unit]
Description=Containers of Berth that start with the host
Documentation=man:berth(1)
After=network-online.target local-fs.target nftables.service firewalld.service ufw.service
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=` + command + ` boot
ExecStop=` + command + ` boot stop
KillMode=none
TimeoutStopSec=120

[Install]
WantedBy=multi-user.target
`
}

// quote writes an argument as systemd reads it (systemd.service(5), "COMMAND LINES").
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `%`, `%%`, `$`, `$$`).Replace(s) + `"`
}

// Install writes the unit and makes it part of the host's start.
func (s Systemd) Install(program, root, state string) error {
	if _, err := os.Stat(filepath.Join(s.Root, "etc/systemd")); errors.Is(err, fs.ErrNotExist) {
		return errs.New(errs.Unsupported, "install "+UnitName, errors.New("this host has no systemd")).
			WithHint("let its init system call `" + program + " boot` at the end of its start, and `" + program + " boot stop` before it goes down")
	}
	for _, dir := range []string{filepath.Dir(s.unit()), filepath.Dir(s.wants())} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return errs.Wrap("install "+UnitName, err)
		}
	}
	if err := atomicfile.Write(s.unit(), []byte(Unit(program, root, state)), 0o644, atomicfile.Durable); err != nil {
		return errs.Wrap("install "+UnitName, err)
	}
	if err := os.Symlink("../"+UnitName, s.wants()); err != nil && !errors.Is(err, fs.ErrExist) {
		return errs.Wrap("install "+UnitName, err)
	}
	return s.reload()
}

// Uninstall takes both away. That nothing is there is no error.
func (s Systemd) Uninstall() error {
	for _, file := range []string{s.wants(), s.unit()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errs.Wrap("remove "+UnitName, err)
		}
	}
	return s.reload()
}

func (s Systemd) reload() error {
	if !s.There() {
		return nil // it reads the unit when it begins
	}
	out, err := exec.Command("systemctl", "daemon-reload").CombinedOutput()
	if err != nil {
		return errs.New(errs.Internal, "tell systemd", fmt.Errorf("systemctl daemon-reload: %w: %s", err, strings.TrimSpace(string(out))))
	}
	return nil
}
