//go:build linux

package test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestTheNetworkByHand runs the commands of docs/networking.md in a network namespace that stands for a host.
func TestTheNetworkByHand(t *testing.T) {
	b, err := os.ReadFile("../docs/networking.md")
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, _ := strings.Cut(string(b), "\n## By hand\n")
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	script := "mount -t tmpfs none /run\nmount -t tmpfs none /tmp\nip link set lo up\n"
	blocks := 0
	for rest := chapter; ; blocks++ {
		var block string
		var ok bool
		if _, rest, ok = strings.Cut(rest, "```sh\n"); !ok {
			break
		}
		block, rest, _ = strings.Cut(rest, "```\n")
		script += block
	}
	if blocks < 7 {
		t.Fatalf("%d blocks of commands", blocks)
	}
	// `!` does not end a shell with -e: what must fail is told apart.
	script = strings.ReplaceAll(script, "\n! ", "\nfails ")
	script = "fails() { if \"$@\"; then echo \"it works: $*\"; exit 1; fi; }\n" + script
	cmd := exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ex")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
}
