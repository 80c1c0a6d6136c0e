//go:build linux

package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/lsm"
)

// Options are what --security-opt says.
type Options struct {
	NoNewPrivileges *bool  // nil: nothing is said
	Unmask          bool   // systempaths=unconfined
	Seccomp         string // "": the default profile; unconfined; or a profile in JSON
	AppArmor        string // a profile; "": the default; unconfined
	Label           []string
}

// Parse reads the options. Those that this host cannot honour are refused: who names a profile counts on it.
func Parse(words []string) (o Options, err error) {
	for _, opt := range words {
		key, value, hasValue := strings.Cut(opt, "=")
		if !hasValue {
			key, value, hasValue = strings.Cut(opt, ":")
		}
		switch {
		case key == "no-new-privileges" && (!hasValue || value == "true"):
			o.NoNewPrivileges = new(true)
		case key == "no-new-privileges" && value == "false":
			o.NoNewPrivileges = new(false)
		case key == "seccomp" && value != "":
			if o.Seccomp, err = readProfile(value); err != nil {
				return o, err
			}
		case key == "systempaths" && value == "unconfined":
			o.Unmask = true
		case key == "apparmor" && value != "":
			if o.AppArmor, err = value, lsm.CheckProfile(value); err != nil {
				return o, err
			}
		case key == "label" && value != "":
			if err := checkLabelOption(value); err != nil {
				return o, err
			}
			o.Label = append(o.Label, value)
		default:
			return o, errs.Text(errs.Invalid, fmt.Sprintf("invalid --security-opt: %q", opt))
		}
	}
	return o, nil
}

// labelParts are what label= changes of the policy's contexts.
var labelParts = [...]string{"user", "role", "type", "level", "filetype"}

func checkLabelOption(value string) error {
	if value == "disable" {
		return nil
	}
	part, text, ok := strings.Cut(value, ":")
	if !ok || text == "" || !slices.Contains(labelParts[:], part) {
		return errs.Text(errs.Invalid, fmt.Sprintf("bad label option %q, must be 'disable' or one of 'user, role, type, level, filetype' followed by ':' and a value", value))
	}
	if !lsm.SELinux() {
		return errs.New(errs.Unsupported, "use --security-opt label="+value, errors.New("this host has no SELinux, so nothing would confine the program")).
			WithHint("leave it out, or say label=disable")
	}
	return nil
}

// ForbidsGain reports whether a process can gain no privileges by executing set-uid programs and files with capabilities
// (PR_SET_NO_NEW_PRIVS, prctl(2)). Who asks for an ordinary user with --user gets one that stays one; an image that has a
// user of its own may have sudo, and --security-opt no-new-privileges=false lets everybody have it.
func (o *Options) ForbidsGain(uid uint32, asked bool) bool {
	if o.NoNewPrivileges != nil {
		return *o.NoNewPrivileges
	}
	return asked && uid != 0
}

// readProfile takes a profile as JSON, which a client has read already, or by the name of a file.
func readProfile(value string) (string, error) {
	if value == "unconfined" || strings.HasPrefix(strings.TrimSpace(value), "{") {
		return value, nil
	}
	if value == "builtin" {
		return "", nil
	}
	b, err := os.ReadFile(value)
	if err != nil {
		return "", errs.New(errs.Invalid, "read seccomp profile", err)
	}
	return string(b), nil
}
