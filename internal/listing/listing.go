// Package listing lists folders for berth-runtime: os.ReadDir would link a sort of its own, eight kilobytes of code.
package listing

import (
	"io/fs"
	"os"
	"sort"
)

// Folder returns what is in a folder, sorted by name, as [os.ReadDir].
func Folder(name string) ([]fs.DirEntry, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	return entries, err
}
