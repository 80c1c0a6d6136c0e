//go:build linux

package cli

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-units"
)

// composeKeys say what a flag is in a service of a compose file, and how its value is written there.
var composeKeys = map[string]struct {
	key   string
	shape func(values []string) any
}{
	"env": {"environment", list}, "env-file": {"env_file", list}, "label": {"labels", list}, "label-file": {"label_file", list}, "annotation": {"annotations", list},
	"publish": {"ports", list}, "expose": {"expose", list}, "dns": {"dns", list}, "dns-search": {"dns_search", list}, "dns-option": {"dns_opt", list},
	"add-host": {"extra_hosts", list}, "link": {"links", list}, "device": {"devices", list}, "device-cgroup-rule": {"device_cgroup_rules", list},
	"cap-add": {"cap_add", list}, "cap-drop": {"cap_drop", list}, "security-opt": {"security_opt", list}, "group-add": {"group_add", list},
	"sysctl": {"sysctls", list}, "tmpfs": {"tmpfs", list}, "volumes-from": {"volumes_from", containersOf}, "ulimit": {"ulimits", ulimits},
	"hostname": {"hostname", scalar}, "domainname": {"domainname", scalar}, "user": {"user", scalar}, "workdir": {"working_dir", scalar}, "restart": {"restart", scalar},
	"memory": {"mem_limit", scalar}, "memory-swap": {"memswap_limit", scalar}, "memory-reservation": {"mem_reservation", scalar}, "memory-swappiness": {"mem_swappiness", number},
	"cpus": {"cpus", scalar}, "cpu-shares": {"cpu_shares", number}, "cpu-period": {"cpu_period", scalar}, "cpu-quota": {"cpu_quota", scalar},
	"cpu-rt-period": {"cpu_rt_period", scalar}, "cpu-rt-runtime": {"cpu_rt_runtime", scalar}, "cpuset-cpus": {"cpuset", scalar}, "pids-limit": {"pids_limit", number},
	"shm-size": {"shm_size", scalar}, "stop-signal": {"stop_signal", scalar}, "stop-timeout": {"stop_grace_period", seconds}, "pid": {"pid", scalar}, "ipc": {"ipc", scalar},
	"uts": {"uts", scalar}, "userns": {"userns_mode", scalar}, "cgroupns": {"cgroup", scalar}, "cgroup-parent": {"cgroup_parent", scalar}, "mac-address": {"mac_address", scalar},
	"platform": {"platform", scalar}, "oom-score-adj": {"oom_score_adj", number}, "oom-kill-disable": {"oom_kill_disable", truth}, "privileged": {"privileged", truth},
	"read-only": {"read_only", truth}, "init": {"init", truth}, "tty": {"tty", truth}, "interactive": {"stdin_open", truth}, "entrypoint": {"entrypoint", list},
	"pull": {"pull_policy", scalar}, "blkio-weight": {"blkio_config", weight},
}

// notOfService are flags that say how it was started, not what it is.
var notOfService = []string{"detach", "rm", "name", "cidfile", "sig-proxy", "detach-keys", "explain", "timing", "attach", "quiet"}

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

// compose is a compose file with the container as its one service. Its volumes and networks are those that are there.
func (r *recipe) compose() string {
	values, order := map[string][]string{}, []string{}
	for _, o := range r.options(notOfService...) {
		if values[o.name] == nil {
			order = append(order, o.name)
		}
		values[o.name] = append(values[o.name], o.value)
	}
	service := map[string]any{"container_name": r.name, "image": r.args[0]}
	if strings.HasPrefix(r.args[0], "/") {
		service["image"], service["command"] = "localhost/busybox", r.args
	} else if len(r.args) > 1 {
		service["command"] = r.args[1:]
	}
	file := map[string]any{"services": map[string]any{r.name: service}}
	var missing []string
	for _, name := range order {
		k, ok := composeKeys[name]
		switch {
		case ok:
			service[k.key] = k.shape(values[name])
		case name == "volume" || name == "mount":
			r.composeVolumes(file, service, name, values[name])
		case name == "network" || name == "net":
			composeNetworks(file, service, values[name])
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

func (r *recipe) composeVolumes(file, service map[string]any, kind string, specs []string) {
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

func composeNetworks(file, service map[string]any, specs []string) {
	for _, spec := range specs {
		name, settings, err := parseNetwork(spec)
		if err != nil {
			continue // it was accepted once
		}
		if name == "host" || name == "none" || name == "bridge" || strings.Contains(name, ":") {
			service["network_mode"] = name
			continue
		}
		own := map[string]any{}
		if len(settings.Aliases) > 0 {
			own["aliases"] = settings.Aliases
		}
		if ip := settings.IPAMConfig; ip != nil && ip.IPv4Address.IsValid() {
			own["ipv4_address"] = ip.IPv4Address.String()
		}
		if ip := settings.IPAMConfig; ip != nil && ip.IPv6Address.IsValid() {
			own["ipv6_address"] = ip.IPv6Address.String()
		}
		sub(service, "networks")[name] = own
		sub(file, "networks")[name] = map[string]any{"external": true}
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
var plainYAML = regexp.MustCompile(`^[A-Za-z_./][A-Za-z0-9_./-]*$`)

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
		if plainYAML.MatchString(s) {
			return s
		}
	}
	var b strings.Builder // a text of JSON is one of YAML
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	return strings.TrimSuffix(b.String(), "\n")
}
