//go:build linux

// Package link tells a container of another one as Docker's --link does: by environment variables that name the other's
// address, its exposed ports and its own environment.
package link

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	docker "github.com/moby/moby/api/types/network"
)

// Other is the container that is linked to.
type Other struct {
	Address netip.Addr
	Exposed docker.PortSet
	Env     []string // what its image and its user set
}

// Split reads NAME[:ALIAS]; without an alias the name is it.
func Split(spec string) (name, alias string, ok bool) {
	name, alias, named := strings.Cut(spec, ":")
	name = strings.TrimPrefix(name, "/")
	if !named {
		alias = name
	}
	return name, alias, name != "" && alias != "" && !strings.ContainsAny(alias, ": /\t\n")
}

// Env returns the variables of a link from a container to another under an alias: ALIAS_NAME; ALIAS_PORT with the lowest
// exposed port; for each port ALIAS_PORT_80_TCP and its parts _ADDR, _PORT, _PROTO; ALIAS_ENV_X for each X of the
// other's environment but PATH and HOME.
func Env(container, alias string, other Other) []string {
	prefix := strings.ToUpper(strings.ReplaceAll(alias, "-", "_"))
	out := []string{prefix + "_NAME=/" + container + "/" + alias}
	ports := make([]docker.Port, 0, len(other.Exposed))
	for p := range other.Exposed {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b docker.Port) int {
		return cmp.Or(cmp.Compare(a.Num(), b.Num()), cmp.Compare(a.Proto(), b.Proto()))
	})
	for i, p := range ports {
		url := fmt.Sprintf("%s://%s", p.Proto(), netip.AddrPortFrom(other.Address, p.Num()))
		if i == 0 {
			out = append(out, prefix+"_PORT="+url)
		}
		name := fmt.Sprintf("%s_PORT_%d_%s", prefix, p.Num(), strings.ToUpper(string(p.Proto())))
		out = append(out, name+"="+url, name+"_ADDR="+other.Address.String(), fmt.Sprintf("%s_PORT=%d", name, p.Num()), name+"_PROTO="+string(p.Proto()))
	}
	for _, e := range other.Env {
		key, _, ok := strings.Cut(e, "=")
		if ok && key != "PATH" && key != "HOME" {
			out = append(out, prefix+"_ENV_"+e)
		}
	}
	return out
}
