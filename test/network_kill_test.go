//go:build linux

package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// networkTraces are what containers leave of a network: records, leases, names, links, and what the firewall knows.
func networkTraces(t *testing.T, root string, before map[string]bool) []string {
	t.Helper()
	left := append(newTraces(before), files(t, root)...)
	for _, pattern := range []string{"state/endpoints/*", "state/ipam/*/[0-9a-f]*", "state/dns/*/*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	for _, family := range []string{"inet", "bridge"} {
		out, err := exec.Command("nft", "list", "table", family, "berth").CombinedOutput()
		if err != nil {
			t.Fatalf("nft: %v: %s", err, out)
		}
		for _, line := range strings.Split(string(out), "\n") {
			left = append(left, family+": "+strings.TrimSpace(line))
		}
	}
	slices.Sort(left)
	return left
}

// untilAsBefore waits a moment for what is just ending.
func untilAsBefore(t *testing.T, what, root string, before map[string]bool, want []string) {
	t.Helper()
	var diff string
	for range 100 {
		if diff = cmp.Diff(want, networkTraces(t, root, before)); diff == "" {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s:\n%s", what, diff)
}

// startsAtOnce is how many containers start on one network at the same time; BERTH_TEST_ROUNDS asks for another number.
const startsAtOnce = 24

// Many starts on one network, connections and disconnections of the same container, all at once: each container is where it
// was told to be, and at the end nothing of them is left.
func TestNetworkStorm(t *testing.T) {
	root, before := newRoot(t), traces()
	must := func(args ...string) string {
		t.Helper()
		out, errOut, code := berth(t, root, args...)
		if code != 0 {
			t.Errorf("%v: %s", args, errOut)
		}
		return out
	}
	var all sync.WaitGroup
	together := func(n int, args func(i int) []string) {
		t.Helper()
		for i := range n {
			all.Go(func() { must(args(i)...) })
		}
		all.Wait()
	}
	must("run", "--rm", "/bin/true")
	leavesNothing(t, root, before)
	clean := networkTraces(t, root, before)
	const networks = 5
	together(networks, func(i int) []string { return []string{"network", "create", fmt.Sprintf("n%d", i)} })
	n := rounds(t, startsAtOnce)
	together(n, func(i int) []string {
		return []string{"run", "-d", "--name", fmt.Sprintf("c%d", i), "-p", fmt.Sprint(30000+i) + ":80", "/bin/sleep", "1000"}
	})
	if got := strings.Fields(must("network", "inspect", "-f", "{{range .Containers}}{{.IPv4Address}} {{end}}", "bridge")); len(got) != n || len(slices.Compact(slices.Sorted(slices.Values(got)))) != n {
		t.Errorf("%d containers have the addresses %v", n, got)
	}
	for _, what := range []string{"connect", "disconnect", "connect"} {
		together(2*networks, func(i int) []string {
			return []string{"network", what, fmt.Sprintf("n%d", i/2), fmt.Sprintf("c%d", i%2)}
		})
		want := 1
		if what == "connect" {
			want += networks
		}
		for _, c := range []string{"c0", "c1"} {
			links := strings.Count(must("exec", c, "ip", "-o", "link"), "link/ether")
			if got := len(strings.Fields(must("inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}", c))); got != want || links != want {
				t.Errorf("after all have done %s, %s has %d links and is in %d networks, want %d", what, c, links, got, want)
			}
		}
	}
	together(n, func(i int) []string { return []string{"rm", "-f", fmt.Sprintf("c%d", i)} })
	together(networks, func(i int) []string { return []string{"network", "rm", fmt.Sprintf("n%d", i)} })
	untilAsBefore(t, "after the storm", root, before, clean)
}

// Whatever step of an attach is the last of a killed command, the same command works next, and at the end no link, lease,
// name, rule or namespace is left.
func TestAttachKilledAtEveryStep(t *testing.T) {
	root, before := newRoot(t), traces()
	must := func(args ...string) {
		t.Helper()
		if _, errOut, code := berth(t, root, args...); code != 0 {
			t.Fatalf("%v: %s", args, errOut)
		}
	}
	must("network", "create", "--subnet", "10.94.0.0/24", "--subnet", "fd00:94::/64", "front")
	must("run", "--rm", "--net", "front", "/bin/true")
	must("network", "rm", "front")
	must("run", "--rm", "/bin/true")
	stride := 1
	if os.Getenv("BERTH_TEST_ROUNDS") == "" {
		stride = 4
	}
	leavesNothing(t, root, before)
	clean := networkTraces(t, root, before)
	for _, c := range []struct{ prepare, victim, again, after []string }{
		{nil, []string{"run", "--rm", "--name", "victim", "--net", "front", "-p", "18085:80", "/bin/true"},
			[]string{"run", "--rm", "--net", "front", "-p", "18085:80", "/bin/true"}, nil},
		{[]string{"run", "-d", "--name", "victim", "/bin/sleep", "1000"}, []string{"network", "connect", "front", "victim"}, nil, nil},
		{[]string{"run", "-d", "--name", "victim", "--net", "front", "/bin/sleep", "1000"}, []string{"network", "disconnect", "front", "victim"}, nil, nil},
	} {
		for n := 1; ; n += stride {
			what := fmt.Sprintf("%v, killed at step %d", c.victim, n)
			must("network", "create", "--subnet", "10.94.0.0/24", "--subnet", "fd00:94::/64", "front")
			if c.prepare != nil {
				must(c.prepare...)
			}
			t.Setenv("BERTH_FAULT", fmt.Sprintf("berth:%d", n))
			_, _, code := berth(t, root, c.victim...)
			t.Setenv("BERTH_FAULT", "")
			again := c.again
			if again == nil && code != 0 {
				again = c.victim
			}
			if again != nil {
				if _, errOut, code := berth(t, root, again...); code != 0 {
					t.Errorf("%s: the next: %s", what, errOut)
				}
			}
			_, _, _ = berth(t, root, "rm", "-f", "victim")
			must("network", "rm", "front")
			untilAsBefore(t, what, root, before, clean)
			if code == 0 {
				break
			}
		}
	}
}
