//go:build linux

package network

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/internal/trace"
)

// Several firewalls may look at one packet, and each can drop what the others accept. Docker and ufw set the policy of
// iptables' FORWARD chain to drop, firewalld's ends with a reject: beside them no container would have a network. So our
// table marks what it accepts, and in those three places, nowhere else, stands one rule of ours that accepts the mark. It
// is put there when a bridge is made, and put back when the other firewall was loaded anew. A chain that an administrator
// has written is left alone: what it drops stays dropped.

// ourMark is one bit of a packet's mark.
const ourMark = 0x00100000

const besideComment = "accepted by the table inet berth"

// others are the chains of other firewalls that forbid forwarding.
var others = []struct {
	family       nftables.TableFamily
	table, chain string
}{
	{nftables.TableFamilyIPv4, "filter", "FORWARD"}, // iptables-nft: Docker, ufw
	{nftables.TableFamilyIPv6, "filter", "FORWARD"},
	{nftables.TableFamilyINet, "firewalld", "filter_FORWARD"},
}

// standBeside puts the rule where it is needed and missing, and reports whether it did so anywhere.
func standBeside() (changed bool, err error) {
	c, err := nftables.New()
	if err != nil {
		return false, errs.Wrap("look for other firewalls", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return false, errs.Wrap("look for other firewalls", err)
	}
	for _, o := range others {
		i := slices.IndexFunc(chains, func(ch *nftables.Chain) bool {
			return ch.Name == o.chain && ch.Table.Name == o.table && ch.Table.Family == o.family
		})
		if i < 0 || o.table == "filter" && (chains[i].Policy == nil || *chains[i].Policy != nftables.ChainPolicyDrop) {
			continue
		}
		rules, err := c.GetRules(chains[i].Table, chains[i])
		if err != nil {
			return changed, errs.Wrap("read chain "+o.chain, err)
		}
		if slices.ContainsFunc(rules, isOurs) {
			continue
		}
		c.InsertRule(&nftables.Rule{Table: chains[i].Table, Chain: chains[i], Exprs: acceptMark(),
			UserData: userdata.AppendString(nil, userdata.TypeComment, besideComment)})
		err = trace.Step("nft insert rule", "another firewall would drop what ours accepts", "table", o.table, "chain", o.chain).Do(c.Flush)
		if err != nil {
			return changed, errs.Wrap("stand beside chain "+o.chain, err)
		}
		changed = true
	}
	legacy, err := besideLegacy()
	return changed || legacy, err
}

// acceptMark is `meta mark & 0x100000 == 0x100000 accept`, in the form that iptables lists as a match of its own.
func acceptMark() []expr.Any {
	bit := binaryutil.NativeEndian.PutUint32(ourMark)
	return []expr.Any{meta(expr.MetaKeyMARK, 1), &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: bit, Xor: make([]byte, 4)},
		is(1, bit), &expr.Counter{}, accept}
}

// isOurs knows the rule by its match: iptables-restore drops comments that it did not make.
func isOurs(r *nftables.Rule) bool {
	want := acceptMark()
	for i, e := range r.Exprs {
		if m, ok := e.(*expr.Meta); ok && m.Key == expr.MetaKeyMARK && i+2 < len(r.Exprs) {
			cmp, ok := r.Exprs[i+2].(*expr.Cmp)
			return ok && string(cmp.Data) == string(want[2].(*expr.Cmp).Data)
		}
	}
	return false
}

// besideLegacy does the same in tables of the kernel's old firewall, which nftables does not show and only its own
// program changes. A host without such tables is not asked.
func besideLegacy() (changed bool, err error) {
	for _, f := range []struct{ names, program string }{{"ip_tables_names", "iptables-legacy"}, {"ip6_tables_names", "ip6tables-legacy"}} {
		b, err := os.ReadFile("/proc/thread-self/net/" + f.names)
		if err != nil || !slices.Contains(strings.Fields(string(b)), "filter") {
			continue
		}
		list, err := exec.Command(f.program, "-w", "-S", "FORWARD").Output()
		if err != nil {
			continue // without its program nobody can have set its policy since boot, or change it now
		}
		rule := fmt.Sprintf("-m mark --mark %#x/%#x -m comment --comment berth -j ACCEPT", ourMark, ourMark)
		if !strings.Contains(string(list), "-P FORWARD DROP") || strings.Contains(string(list), fmt.Sprintf("--mark %#x/%#x ", ourMark, ourMark)) {
			continue
		}
		err = trace.Step("exec "+f.program, "another firewall would drop what ours accepts", "chain", "FORWARD").Do(func() error {
			return exec.Command(f.program, append([]string{"-w", "-I", "FORWARD", "1"}, strings.Fields(rule)...)...).Run()
		})
		if err != nil {
			return changed, errs.Wrap("stand beside "+f.program, err)
		}
		changed = true
	}
	return changed, nil
}
