package arch

import (
	"strings"
	"testing"
)

// floors say which packages of the module a package may import: those of its own unit, always, and those that are under
// one of the folders named here. The first line whose folder holds the package counts.
var floors = []struct{ dir, may string }{
	// 0: leaves that know nothing of containers
	{"internal", "internal"},
	// 1: the kernel, a folder for each mechanism
	{"linux/spawn", "internal linux/namespace"},
	{"linux/mount", "internal linux/namespace"},
	{"linux/cgroup", "internal linux/namespace linux/systemd"},
	{"linux", "internal"},
	// 2: one container, images, networks, volumes; none knows another
	{"container", "internal linux"},
	{"image", "internal linux"},
	{"network", "internal linux"},
	{"volume", "internal linux"},
	// 3: what stays with a container; what makes images
	{"monitor", "internal linux container network/dns"},
	{"build", "internal linux image"},
	// 4: the only place where the lower floors meet
	{"engine", "internal linux container image network volume monitor build"},
	// 5: what users speak to. The terminal is theirs.
	{"api", "internal engine"},
	{"cli", "internal engine linux/tty"},
	// 6: programs
	{"cmd/berth-runtime", "internal container monitor"},
	{"cmd", "internal cli api container monitor"},
	// tests of the whole
	{"test", "internal linux container image network volume monitor build engine api cli cmd"},
}

func within(dir, folder string) bool { return dir == folder || strings.HasPrefix(dir, folder+"/") }

// unit is the folder whose packages belong together: linux/seccomp, image.
func unit(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	if len(parts) > 1 && (parts[0] == "linux" || parts[0] == "cmd") {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

// mayImport reports whether a package may import another, both as folders of the module.
func mayImport(from, to string) (ok, known bool) {
	for _, floor := range floors {
		if !within(from, floor.dir) {
			continue
		}
		if within(to, unit(from)) {
			return true, true
		}
		for _, folder := range strings.Fields(floor.may) {
			if within(to, folder) {
				return true, true
			}
		}
		return false, true
	}
	return false, false
}

func TestFloorsRules(t *testing.T) {
	cases := []struct {
		from, to  string
		ok, known bool
	}{
		{"linux/mount", "linux/namespace", true, true},
		{"linux/namespace", "linux/mount", false, true},
		{"linux/seccomp", "linux/tty", false, true},
		{"container/ocicli", "container", true, true},
		{"container", "image", false, true},
		{"container", "containers", false, true},
		{"image/layer", "image/content", true, true},
		{"monitor", "network/dns", true, true},
		{"monitor", "network", false, true},
		{"cli", "api", false, true},
		{"cmd/berth-runtime", "cli", false, true},
		{"util", "internal/errs", false, false},
	}
	for _, c := range cases {
		if ok, known := mayImport(c.from, c.to); ok != c.ok || known != c.known {
			t.Errorf("%s imports %s: %v, %v", c.from, c.to, ok, known)
		}
	}
}

func TestImportsGoDownTheFloors(t *testing.T) {
	for _, f := range files(t) {
		if f.test {
			continue
		}
		for _, imported := range f.imports() {
			to, ours := strings.CutPrefix(imported, module+"/")
			if !ours {
				continue
			}
			if ok, known := mayImport(f.dir, to); !known {
				t.Errorf("%s: no floor is known for %s: add it to the table", f.name, f.dir)
			} else if !ok {
				t.Errorf("%s: %s must not import %s", f.name, f.dir, to)
			}
		}
	}
}

// The lowest floor must cost a program nothing: x/sys and the standard library are what it may take.
func TestLeavesImportNothingForeign(t *testing.T) {
	for _, f := range files(t) {
		if f.test || !within(f.dir, "internal") {
			continue
		}
		for _, imported := range f.imports() {
			host, _, _ := strings.Cut(imported, "/")
			foreign := strings.Contains(host, ".") && !strings.HasPrefix(imported, module+"/")
			if foreign && !strings.HasPrefix(imported, "golang.org/x/sys/") {
				t.Errorf("%s imports %s", f.name, imported)
			}
		}
	}
}
