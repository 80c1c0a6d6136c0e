//go:build linux

package recipe

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/docker/go-units"
)

// shape is how the values of a flag are written in a compose file.
type shape func(values []string) any

// composeKey says what a flag is in a service of a compose file, and how its values are written there.
func composeKey(flag string) (key string, write shape, ok bool) {
	for _, words := range []struct {
		write shape
		names string // FLAG, or FLAG=KEY when the key is not the flag with _ for -
	}{
		{list, "env=environment env-file label=labels label-file annotation=annotations publish=ports expose dns dns-search dns-option=dns_opt add-host=extra_hosts link=links device=devices device-cgroup-rule=device_cgroup_rules cap-add cap-drop security-opt group-add sysctl=sysctls tmpfs entrypoint"},
		{containersOf, "volumes-from"},
		{ulimits, "ulimit=ulimits"},
		{scalar, "hostname domainname user workdir=working_dir restart memory=mem_limit memory-swap=memswap_limit memory-reservation=mem_reservation cpus cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpuset-cpus=cpuset shm-size stop-signal pid ipc uts userns=userns_mode cgroupns=cgroup cgroup-parent mac-address platform pull=pull_policy"},
		{number, "memory-swappiness=mem_swappiness cpu-shares pids-limit oom-score-adj"},
		{seconds, "stop-timeout=stop_grace_period"},
		{truth, "oom-kill-disable privileged read-only init tty interactive=stdin_open"},
		{weight, "blkio-weight=blkio_config"},
	} {
		for _, word := range strings.Fields(words.names) {
			name, key, renamed := strings.Cut(word, "=")
			if !renamed {
				key = strings.ReplaceAll(name, "-", "_")
			}
			if name == flag {
				return key, words.write, true
			}
		}
	}
	return "", nil, false
}

// notOfService reports whether a flag says how the container was started, not what it is.
func notOfService(flag string) bool {
	switch flag {
	case "detach", "rm", "name", "cidfile", "sig-proxy", "detach-keys", "explain", "timing", "attach", "quiet":
		return true
	}
	return false
}

func list(v []string) any    { return v }
func scalar(v []string) any  { return v[0] }
func number(v []string) any  { return json.Number(v[0]) }
func seconds(v []string) any { return v[0] + "s" }
func truth(v []string) any   { return v[0] != "false" }
func weight(v []string) any  { return map[string]any{"weight": json.Number(v[0])} }

func containersOf(v []string) any {
	var out []string
	for _, name := range v {
		out = append(out, "container:"+name)
	}
	return out
}

func ulimits(v []string) any {
	out := map[string]any{}
	for _, text := range v {
		if u, err := units.ParseUlimit(text); err == nil {
			out[u.Name] = map[string]any{"soft": json.Number(fmt.Sprint(u.Soft)), "hard": json.Number(fmt.Sprint(u.Hard))}
		}
	}
	return out
}

// Network is a value of --network, read.
type Network struct {
	Name       string
	Aliases    []string
	IPv4, IPv6 netip.Addr
}

// Compose is a compose file with the container as its one service. Its volumes and networks are those that are there.
func (r *Recipe) Compose(readNetwork func(spec string) (Network, error)) string {
	values, order := map[string][]string{}, []string{}
	for _, o := range r.Options {
		if notOfService(o.Name) {
			continue
		}
		if values[o.Name] == nil {
			order = append(order, o.Name)
		}
		values[o.Name] = append(values[o.Name], o.Value)
	}
	service := map[string]any{"container_name": r.Name, "image": r.Args[0]}
	if strings.HasPrefix(r.Args[0], "/") {
		service["image"], service["command"] = "localhost/busybox", r.Args
	} else if len(r.Args) > 1 {
		service["command"] = r.Args[1:]
	}
	file := map[string]any{"services": map[string]any{r.Name: service}}
	var missing []string
	for _, name := range order {
		key, write, ok := composeKey(name)
		switch {
		case ok:
			service[key] = write(values[name])
		case name == "volume" || name == "mount":
			composeVolumes(file, service, name, values[name])
		case name == "network" || name == "net":
			composeNetworks(file, service, values[name], readNetwork)
		case strings.HasPrefix(name, "health-") && name != "health-on-failure", name == "no-healthcheck":
			composeHealth(service, name, values[name][0])
		case name == "log-driver" || name == "log-opt":
			composeLogging(service, name, values[name])
		default:
			missing = append(missing, "--"+name)
		}
	}
	text := yamlOf(file, 0)
	if len(missing) > 0 {
		text = "# Compose has no word for " + strings.Join(missing, ", ") + ".\n" + text
	}
	return text
}

// sub finds or makes a map in a map.
func sub(m map[string]any, key string) map[string]any {
	if m[key] == nil {
		m[key] = map[string]any{}
	}
	return m[key].(map[string]any)
}

func composeVolumes(file, service map[string]any, kind string, specs []string) {
	all, _ := service["volumes"].([]any)
	for _, spec := range specs {
		if kind == "volume" {
			all = append(all, spec)
			if source, _, named := strings.Cut(spec, ":"); named && !strings.ContainsAny(source, "/.~") {
				sub(file, "volumes")[source] = map[string]any{"external": true}
			}
			continue
		}
		fields, _ := csv.NewReader(strings.NewReader(spec)).Read()
		m := map[string]any{"type": "volume"}
		for _, field := range fields {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "type":
				m["type"] = value
			case "src", "source":
				m["source"] = value
			case "dst", "destination", "target":
				m["target"] = value
			case "ro", "readonly":
				m["read_only"] = value != "false"
			case "bind-propagation":
				sub(m, "bind")["propagation"] = value
			case "volume-nocopy":
				sub(m, "volume")["nocopy"] = value != "false"
			case "volume-subpath":
				sub(m, "volume")["subpath"] = value
			case "image-subpath":
				sub(m, "image")["subpath"] = value
			case "tmpfs-size":
				sub(m, "tmpfs")["size"] = value
			}
		}
		if name, ok := m["source"].(string); ok && m["type"] == "volume" {
			sub(file, "volumes")[name] = map[string]any{"external": true}
		}
		all = append(all, m)
	}
	service["volumes"] = all
}

func composeNetworks(file, service map[string]any, specs []string, read func(string) (Network, error)) {
	for _, spec := range specs {
		n, err := read(spec)
		if err != nil {
			continue // it was accepted once
		}
		if n.Name == "host" || n.Name == "none" || n.Name == "bridge" || strings.Contains(n.Name, ":") {
			service["network_mode"] = n.Name
			continue
		}
		own := map[string]any{}
		if len(n.Aliases) > 0 {
			own["aliases"] = n.Aliases
		}
		if n.IPv4.IsValid() {
			own["ipv4_address"] = n.IPv4.String()
		}
		if n.IPv6.IsValid() {
			own["ipv6_address"] = n.IPv6.String()
		}
		sub(service, "networks")[n.Name] = own
		sub(file, "networks")[n.Name] = map[string]any{"external": true}
	}
}

func composeHealth(service map[string]any, flag, value string) {
	h := sub(service, "healthcheck")
	switch flag {
	case "no-healthcheck":
		h["disable"] = true
	case "health-cmd":
		h["test"] = []string{"CMD-SHELL", value}
	case "health-retries":
		h["retries"] = json.Number(value)
	default:
		h[strings.ReplaceAll(strings.TrimPrefix(flag, "health-"), "-", "_")] = value
	}
}

func composeLogging(service map[string]any, flag string, values []string) {
	l := sub(service, "logging")
	if flag == "log-driver" {
		l["driver"] = values[0]
		return
	}
	for _, o := range values {
		key, value, _ := strings.Cut(o, "=")
		sub(l, "options")[key] = value
	}
}

// plainYAML are texts that need no quotes: they are nothing but text (YAML 1.2, 7.3.3, and what 1.1 took for numbers,
// times and truth).
var plainYAML = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./-]*$`) })

// yamlOf writes maps, lists, texts and numbers, keys in order.
func yamlOf(v any, depth int) string {
	pad := strings.Repeat("  ", depth)
	switch v := v.(type) {
	case map[string]any:
		var b strings.Builder
		for _, key := range slices.Sorted(maps.Keys(v)) {
			b.WriteString(pad + yamlText(key) + ":" + yamlBehind(v[key], depth))
		}
		return b.String()
	case []string:
		items := make([]any, len(v))
		for i := range v {
			items[i] = v[i]
		}
		return yamlOf(items, depth)
	case []any:
		var b strings.Builder
		for _, item := range v {
			if _, nested := item.(map[string]any); nested {
				b.WriteString(pad + "- " + strings.TrimPrefix(yamlOf(item, depth+1), pad+"  "))
				continue
			}
			b.WriteString(pad + "-" + yamlBehind(item, depth))
		}
		return b.String()
	}
	return ""
}

// yamlBehind is what stands behind a colon or a dash.
func yamlBehind(v any, depth int) string {
	switch v := v.(type) {
	case string:
		return " " + yamlText(strings.ReplaceAll(v, "$", "$$")) + "\n" // compose reads variables in values
	case bool, json.Number:
		return fmt.Sprintf(" %v\n", v)
	}
	if text := yamlOf(v, depth+1); text != "" {
		return "\n" + text
	}
	return " {}\n"
}

func yamlText(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null":
	default:
		if plainYAML().MatchString(s) {
			return s
		}
	}
	var b strings.Builder // a text of JSON is one of YAML
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	return strings.TrimSuffix(b.String(), "\n")
}
