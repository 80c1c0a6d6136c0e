//go:build linux

package confine

import (
	"bytes"
	_ "embed" // the profile
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
	"github.com/berth-containers/berth/linux/lsm"
)

// DefaultProfile is the profile of a container about which nobody says anything.
const DefaultProfile = "berth-default"

//go:embed profile
var profile []byte

// loadedProfiles lists what AppArmor knows. A container of another engine, which sees that the kernel has AppArmor and can
// load nothing, does not have it.
const loadedProfiles = "/sys/kernel/security/apparmor/profiles"

// profileAvailable reports whether the default profile is loaded or can be.
func profileAvailable() bool {
	if !lsm.AppArmor() {
		return false
	}
	loaded, err := profileLoaded()
	return err == nil && (loaded || Parser() != "")
}

func profileLoaded() (bool, error) {
	b, err := os.ReadFile(loadedProfiles)
	return bytes.HasPrefix(b, []byte(DefaultProfile+" (")) || bytes.Contains(b, []byte("\n"+DefaultProfile+" (")), err
}

// Parser is the program that compiles and loads profiles; "" when the host does not have it.
func Parser() string {
	for _, dir := range [...]string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"} {
		if fi, err := os.Stat(dir + "/apparmor_parser"); err == nil && fi.Mode()&0o111 != 0 {
			return dir + "/apparmor_parser"
		}
	}
	return ""
}

// Load loads the default profile if the container has it and the kernel does not.
func (l *Labels) Load() error {
	if l.Profile != DefaultProfile {
		return nil
	}
	if loaded, err := profileLoaded(); err != nil || loaded {
		return err
	}
	err := trace.Step("apparmor_parser", "containers are confined by a profile of ours", "profile", DefaultProfile).Do(func() error {
		cmd := exec.Command(Parser(), "--replace", "--skip-cache")
		cmd.Stdin, cmd.Env = bytes.NewReader(profile), []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
		out, err := cmd.CombinedOutput()
		var ended *exec.ExitError
		if errors.As(err, &ended) {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
		}
		return err
	})
	if err != nil {
		return errs.New(errs.Internal, "load AppArmor profile "+DefaultProfile, err).WithHint("--security-opt apparmor=unconfined runs without one")
	}
	return nil
}
