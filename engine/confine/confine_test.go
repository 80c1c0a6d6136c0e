//go:build linux

package confine

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/lsm"
)

func TestParse(t *testing.T) {
	o, err := Parse([]string{"no-new-privileges", "apparmor:unconfined", "label=disable", "systempaths=unconfined", "seccomp=unconfined"})
	if err != nil || o.NoNewPrivileges == nil || !*o.NoNewPrivileges || o.AppArmor != lsm.Unconfined || !o.Unmask || o.Seccomp != "unconfined" || len(o.Label) != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, bad := range []string{"", "apparmor", "apparmor=", "label", "label=", "label=level", "label=level:", "label=colour:red", "no-new-privileges=perhaps", "nonsense=1", "seccomp=/nowhere"} {
		if _, err := Parse([]string{bad}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestCategoriesAreTwoAndTheContainersOwn(t *testing.T) {
	const id = "0123456789abcdef"
	if got := categories(id); got != categories(id) || !regexp.MustCompile(`^s0:c\d{1,4},c\d{1,4}$`).MatchString(got) {
		t.Errorf("categories %s", got)
	}
	if categories(id) == categories("1"+id[1:]) {
		t.Error("another container has the same")
	}
	for id, want := range map[string]string{"000000000000": "s0:c0,c1", "0000000003ff": "s0:c0,c1023", "": "s0", "no": "s0"} {
		if got := categories(id); got != want {
			t.Errorf("%q: %s, want %s", id, got, want)
		}
	}
}

func TestPolicyContexts(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "contexts"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "process = \"u:r:container_t:s0\"\ncontent=\"other\"\n# file = no\nfile = \"u:object_r:container_file_t:s0-s0:c1.c5\"\n"
	if err := os.WriteFile(filepath.Join(dir, "contexts/lxc_contexts"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	process, file := policyContexts(dir)
	if process != "u:r:container_t:s0" || file != "u:object_r:container_file_t:s0-s0:c1.c5" {
		t.Errorf("%q, %q", process, file)
	}
	if c := splitContext(file); c.level != "s0-s0:c1.c5" || c.String() != file {
		t.Errorf("%+v", c)
	}
}

func TestTheHostsOwnFoldersAreNotRelabelled(t *testing.T) {
	for _, dir := range []string{"/", "/etc", "/etc/", "/home", os.Getenv("HOME")} {
		if err := relabel(dir, "a:b:c:s0"); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
