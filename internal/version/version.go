// Package version knows which version of Berth a program is.
package version

import "runtime/debug"

// stamp is set by the linker: `make build` and `make dist` give what `git describe` says.
var stamp string

// String returns the version that the program was built as. A program that was built without a stamp (`go run`,
// `go install`) has the version that Go recorded for the module, or "devel".
func String() string {
	if stamp != "" {
		return stamp
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// Commit returns the commit that the program was built from, and whether files had been changed after it. It is empty
// when Go recorded none.
func Commit() (id string, changed bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", false
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			id = s.Value
		case "vcs.modified":
			changed = s.Value == "true"
		}
	}
	return id, changed
}
