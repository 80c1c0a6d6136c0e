// Package busybox is the default image: a root file system around Debian's busybox, linked statically to musl, that the
// program carries with it, so that a first container needs neither a network nor a file.
//
// build.sh makes the archives and provenance.json, which names what they were made of. The same versions of Debian's
// packages give the same bytes. Only the archive of the architecture that the program is built for is linked, as it
// lies in the program's file: nothing is unpacked before [RootFS] is asked for, and no start pays for it.
package busybox

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/berth-containers/berth/internal/errs"
)

// Name is what the archives are made of.
const Name = "busybox"

//go:embed provenance.json
var provenance string

// Provenance says what the archives were made of, by which licence.
type Provenance struct {
	Name    string            `json:"name"`
	Version string            `json:"version"` // of Debian's source package
	Date    time.Time         `json:"date"`    // of that package: the archives' files have it
	License string            `json:"license"` // SPDX
	Source  string            `json:"source"`  // URL of the source package's description
	Files   map[string]string `json:"files"`   // the source package's files, the patch here, and their digests
	Libc    string            `json:"libc"`
	Headers string            `json:"headers"`
	// Compiler is the first line of `gcc --version`.
	Compiler string            `json:"compiler"`
	RootFSs  map[string]string `json:"rootfs"` // digest of the archive by GOARCH
}

// RootFS returns the root file system for this program's architecture, as a tar archive compressed with gzip.
// It is Unsupported in programs for other architectures than amd64 and arm64, and for other systems than Linux.
func RootFS() ([]byte, error) {
	if rootfs == "" {
		return nil, errs.New(errs.Unsupported, "open the default image",
			fmt.Errorf("this program has none for %s/%s", runtime.GOOS, runtime.GOARCH)).
			WithHint("import a root file system with `berth import`")
	}
	return []byte(rootfs), nil
}

// Source returns where the archives come from.
func Source() (Provenance, error) {
	var p Provenance
	err := json.Unmarshal([]byte(provenance), &p)
	return p, errs.Wrap("read the default image's provenance", err)
}
