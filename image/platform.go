//go:build linux

package image

import (
	"runtime"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// fits reports whether an image of a platform runs here.
func fits(p *v1.Platform) bool {
	return (p.OS == "" || p.OS == "linux") && (p.Architecture == "" || p.Architecture == runtime.GOARCH)
}
