//go:build linux

package cli

import (
	"encoding/csv"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/blkiodev"
	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/berth-containers/berth/engine/devices"
	"github.com/berth-containers/berth/engine/ports"
	"github.com/berth-containers/berth/internal/errs"
)

func (f *runFlags) useLimits() error {
	f.h.Memory, f.h.MemorySwap, f.h.MemoryReservation = int64(f.memory), int64(f.memorySwap), int64(f.memoryReservation)
	f.h.NanoCPUs = int64(f.cpus)
	if f.flags.Changed("memory-swappiness") {
		f.h.MemorySwappiness = &f.swappiness
	}
	if f.flags.Changed("oom-kill-disable") {
		f.h.OomKillDisable = &f.oomKillDisable
	}
	if f.flags.Changed("pids-limit") {
		f.h.PidsLimit = &f.pidsLimit
	}
	for _, u := range f.ulimit {
		parsed, err := units.ParseUlimit(u)
		if err != nil {
			return errs.New(errs.Invalid, "--ulimit", err)
		}
		f.h.Ulimits = append(f.h.Ulimits, parsed)
	}
	for size, text := range pairs(f.hugepages) {
		n, err := units.RAMInBytes(text)
		if err != nil || n < 0 {
			return invalid("--hugetlb: invalid size: %s", text)
		}
		if f.c.Hugepages == nil {
			f.c.Hugepages = map[string]uint64{}
		}
		f.c.Hugepages[size] = uint64(n)
	}
	f.c.CgroupConf = pairs(f.cgroupConf)
	return nil
}

func (f *runFlags) useDevices() error {
	for _, d := range f.device {
		if devices.IsCDI(d) {
			f.h.DeviceRequests = append(f.h.DeviceRequests, docker.DeviceRequest{Driver: "cdi", DeviceIDs: []string{d}})
			continue
		}
		parts := strings.Split(d, ":")
		m := docker.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
		switch {
		case len(parts) > 3 || parts[0] == "":
			return invalid("invalid device specification: %s", d)
		case len(parts) == 3:
			m.PathInContainer, m.CgroupPermissions = parts[1], parts[2]
		case len(parts) == 2 && strings.Trim(parts[1], "rwm") == "" && parts[1] != "":
			m.CgroupPermissions = parts[1]
		case len(parts) == 2:
			m.PathInContainer = parts[1]
		}
		if strings.Trim(m.CgroupPermissions, "rwm") != "" || m.CgroupPermissions == "" {
			return invalid("invalid device mode: %s", m.CgroupPermissions)
		}
		if !filepath.IsAbs(m.PathInContainer) {
			return invalid("invalid device specification: %s", d)
		}
		f.h.Devices = append(f.h.Devices, m)
	}
	if err := f.useGPUs(); err != nil {
		return err
	}
	f.h.DeviceCgroupRules = f.deviceRule
	for _, w := range f.blkioWeightDevice {
		path, text, _ := strings.Cut(w, ":")
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || !strings.HasPrefix(path, "/dev/") || n > 0 && n < 10 || n > 1000 {
			return invalid("invalid weight for device: %s", w)
		}
		f.h.BlkioWeightDevice = append(f.h.BlkioWeightDevice, &blkiodev.WeightDevice{Path: path, Weight: uint16(n)})
	}
	for _, l := range []struct {
		from  listFlag
		to    *[]*blkiodev.ThrottleDevice
		bytes bool
	}{
		{f.deviceReadBps, &f.h.BlkioDeviceReadBps, true}, {f.deviceWriteBps, &f.h.BlkioDeviceWriteBps, true},
		{f.deviceReadIOps, &f.h.BlkioDeviceReadIOps, false}, {f.deviceWriteIOps, &f.h.BlkioDeviceWriteIOps, false},
	} {
		for _, spec := range l.from {
			path, text, _ := strings.Cut(spec, ":")
			n, err := strconv.ParseUint(text, 10, 64)
			if l.bytes {
				var b int64
				b, err = units.RAMInBytes(text)
				n = uint64(max(b, 0))
			}
			if err != nil || !strings.HasPrefix(path, "/dev/") {
				return invalid("invalid rate for device: %s", spec)
			}
			*l.to = append(*l.to, &blkiodev.ThrottleDevice{Path: path, Rate: n})
		}
	}
	return nil
}

// useGPUs reads --gpus: all, a number, or pairs as in "device=0,1".
func (f *runFlags) useGPUs() error {
	for _, text := range f.gpus {
		fields, err := csv.NewReader(strings.NewReader(text)).Read()
		if err != nil {
			return errs.New(errs.Invalid, "--gpus", err)
		}
		r := docker.DeviceRequest{Count: 1, Capabilities: [][]string{{"gpu"}}}
		for _, field := range fields {
			key, value, pair := strings.Cut(field, "=")
			if !pair {
				key, value = "count", field
			}
			switch key {
			case "count":
				if r.Count, err = strconv.Atoi(value); value == "all" {
					r.Count, err = -1, nil
				}
				if err != nil || r.Count < -1 || r.Count == 0 {
					return invalid("--gpus: count must be an integer or 'all': %s", value)
				}
			case "device":
				r.DeviceIDs, r.Count = strings.Split(value, ","), 0
			case "driver":
				r.Driver = value
			case "capabilities":
				r.Capabilities = [][]string{append(strings.Split(value, ","), "gpu")}
			case "options":
			default:
				return invalid("--gpus: unexpected key '%s' in '%s'", key, field)
			}
		}
		f.h.DeviceRequests = append(f.h.DeviceRequests, r)
	}
	return nil
}

// useNetwork reads --network, whose long form has key=value pairs, and what goes with the first one.
func (f *runFlags) useNetwork() error {
	c := &f.c
	c.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{}
	for i, spec := range f.network {
		name, settings, err := parseNetwork(spec)
		if err != nil {
			return err
		}
		if i == 0 {
			f.h.NetworkMode = docker.NetworkMode(name)
			if err := f.useAddresses(settings); err != nil {
				return err
			}
		}
		c.NetworkingConfig.EndpointsConfig[name] = settings
	}
	if len(f.network) == 0 && (len(f.alias) > 0 || f.ip != "" || f.ip6 != "" || f.mac != "") {
		settings := &network.EndpointSettings{}
		if err := f.useAddresses(settings); err != nil {
			return err
		}
		c.NetworkingConfig.EndpointsConfig["bridge"] = settings
	}
	var err error
	if c.ExposedPorts, f.h.PortBindings, c.LANPorts, err = ports.Parse(f.publish, f.expose); err != nil {
		return err
	}
	f.h.PublishAllPorts = f.publishAll
	for _, text := range f.dns {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return invalid("%s is not an ip address", text)
		}
		f.h.DNS = append(f.h.DNS, a)
	}
	for _, h := range f.addHost {
		name, address, ok := strings.Cut(strings.Replace(h, "=", ":", 1), ":")
		if _, err := netip.ParseAddr(strings.Trim(address, "[]")); name == "" || !ok || err != nil && address != "host-gateway" {
			return invalid("invalid IP address in add-host: %q", address)
		}
		f.h.ExtraHosts = append(f.h.ExtraHosts, name+":"+address)
	}
	return nil
}

func (f *runFlags) useAddresses(s *network.EndpointSettings) error {
	s.Aliases = append(s.Aliases, f.alias...)
	for _, a := range []struct {
		text string
		six  bool
	}{{f.ip, false}, {f.ip6, true}} {
		if a.text == "" {
			continue
		}
		addr, err := netip.ParseAddr(a.text)
		if err != nil || addr.Is4() == a.six {
			return invalid("invalid IP address: %s", a.text)
		}
		if s.IPAMConfig == nil {
			s.IPAMConfig = &network.EndpointIPAMConfig{}
		}
		if a.six {
			s.IPAMConfig.IPv6Address = addr
		} else {
			s.IPAMConfig.IPv4Address = addr
		}
	}
	if f.mac == "" {
		return nil
	}
	if err := s.MacAddress.UnmarshalText([]byte(f.mac)); err != nil {
		return invalid("%s is not a valid mac address", f.mac)
	}
	return nil
}

func parseNetwork(spec string) (string, *network.EndpointSettings, error) {
	s := &network.EndpointSettings{}
	if !strings.Contains(spec, "=") {
		if spec == "default" {
			spec = "bridge"
		}
		return spec, s, nil
	}
	name := ""
	for _, field := range strings.Split(spec, ",") {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "name":
			name = value
		case "alias":
			s.Aliases = append(s.Aliases, value)
		case "ip", "ip6":
			if s.IPAMConfig == nil {
				s.IPAMConfig = &network.EndpointIPAMConfig{}
			}
			to := &s.IPAMConfig.IPv4Address
			if key == "ip6" {
				to = &s.IPAMConfig.IPv6Address
			}
			*to, err = netip.ParseAddr(value)
		case "mac-address":
			err = s.MacAddress.UnmarshalText([]byte(value))
		case "driver-opt":
			k, v, _ := strings.Cut(value, "=")
			if s.DriverOpts == nil {
				s.DriverOpts = map[string]string{}
			}
			s.DriverOpts[k] = v
		case "gw-priority":
			s.GwPriority, err = strconv.Atoi(value)
		default:
			return "", nil, invalid("invalid field %s in --network", key)
		}
		if err != nil {
			return "", nil, errs.New(errs.Invalid, "--network", err)
		}
	}
	if name == "" {
		return "", nil, invalid("--network: network name/id is not specified")
	}
	return name, s, nil
}

func joinPath(dir, path string) string {
	if rest, ok := strings.CutPrefix(path, "~"); ok {
		return filepath.Join(os.Getenv("HOME"), rest)
	}
	return filepath.Join(dir, path)
}

// caller is the user who runs this command, the one behind sudo, as the owner of an id map.
func caller() string {
	uid, gid := strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid())
	if u, g := os.Getenv("SUDO_UID"), os.Getenv("SUDO_GID"); uid == "0" && u != "" && g != "" {
		uid, gid = u, g
	}
	return "owner=" + uid + "/" + gid
}
