//go:build linux

package image

import (
	"fmt"
	"runtime"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-containers/berth/internal/errs"
)

// Host is this host's platform.
func Host() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// ParsePlatform reads os/arch[/variant].
func ParsePlatform(text string) (v1.Platform, error) {
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return v1.Platform{}, errs.Text(errs.Invalid, fmt.Sprintf("invalid platform %q: want OS/ARCH[/VARIANT]", text))
	}
	return v1.Platform{OS: parts[0], Architecture: parts[1], Variant: strings.Join(parts[2:], "")}, nil
}

// Platform is what the image is made for: os/arch[/variant].
func (img *Image) Platform() string {
	p := img.Config.Platform
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// Fits reports whether the image is for a platform.
func (img *Image) Fits(p v1.Platform) bool { return fits(&img.Config.Platform, p) }

// fits compares two platforms. What one of them leaves open fits.
func fits(have *v1.Platform, want v1.Platform) bool {
	same := func(a, b string) bool { return a == "" || b == "" || a == b }
	return same(have.OS, want.OS) && same(have.Architecture, want.Architecture) && same(have.Variant, want.Variant)
}
