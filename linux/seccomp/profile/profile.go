//go:build linux

package profile

import (
	"runtime"

	moby "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berth-containers/berth/internal/errs"
)

// Default returns the profile for a container with these capabilities. It is moby's, with two changes. Calls of other
// architectures than the CPU's own (i386, x32) are refused as a whole: they are another way to the same kernel code, and
// the profile's conditions on arguments do not hold there (socketcall). New user namespaces are refused also to a
// container without CAP_SYS_ADMIN that got past the conditions on clone, because unshare and clone3 are denied.
func Default(capabilities []string) (*specs.LinuxSeccomp, error) {
	p, err := moby.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}})
	if err != nil {
		return nil, errs.Wrap("make default seccomp profile", err)
	}
	native := specs.ArchX86_64
	if runtime.GOARCH == "arm64" {
		native = specs.ArchAARCH64
	}
	p.Architectures = []specs.Arch{native}
	return p, nil
}

// Load reads a profile in Docker's JSON form, for `--security-opt seccomp=FILE`.
func Load(body []byte, capabilities []string) (*specs.LinuxSeccomp, error) {
	p, err := moby.LoadProfile(string(body), &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}})
	if err != nil {
		return nil, errs.New(errs.Invalid, "read seccomp profile", err)
	}
	return p, nil
}
