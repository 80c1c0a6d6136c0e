//go:build linux

package devices

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	docker "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/internal/errs"
)

// Folders are where CDI files lie; a device in a later one hides the same in an earlier one (CDI's SPEC.md).
var Folders = []string{"/etc/cdi", "/var/run/cdi"}

// The shape of a CDI file, as far as it concerns containers.
type (
	cdiFile struct {
		Version string      `json:"cdiVersion"`
		Kind    string      `json:"kind"` // VENDOR/CLASS
		Devices []cdiDevice `json:"devices"`
		Edits   edits       `json:"containerEdits"` // of all its devices, once
	}
	cdiDevice struct {
		Name  string `json:"name"`
		Edits edits  `json:"containerEdits"`
	}
	edits struct {
		Env         []string     `json:"env"`
		DeviceNodes []deviceNode `json:"deviceNodes"`
		Mounts      []struct {
			HostPath      string   `json:"hostPath"`
			ContainerPath string   `json:"containerPath"`
			Type          string   `json:"type"`
			Options       []string `json:"options"`
		} `json:"mounts"`
		Hooks []struct {
			Name    string   `json:"hookName"`
			Path    string   `json:"path"`
			Args    []string `json:"args"`
			Env     []string `json:"env"`
			Timeout *int     `json:"timeout"`
		} `json:"hooks"`
		AdditionalGIDs []uint32        `json:"additionalGids"`
		NetDevices     json.RawMessage `json:"netDevices"`
		IntelRdt       json.RawMessage `json:"intelRdt"`
	}
	deviceNode struct {
		Path        string       `json:"path"`
		HostPath    string       `json:"hostPath"`
		Type        string       `json:"type"`
		Major       *int64       `json:"major"`
		Minor       *int64       `json:"minor"`
		FileMode    *os.FileMode `json:"fileMode"`
		Permissions string       `json:"permissions"`
		UID         *uint32      `json:"uid"`
		GID         *uint32      `json:"gid"`
	}
)

// largestFile is how much a CDI file may have, in bytes.
const largestFile = 4 << 20

// IsCDI reports whether a device's name is one of CDI: VENDOR/CLASS=NAME, and no path.
func IsCDI(name string) bool {
	kind, device, ok := strings.Cut(name, "=")
	vendor, class, ok2 := strings.Cut(kind, "/")
	return ok && ok2 && vendor != "" && class != "" && device != "" && !strings.HasPrefix(name, "/") && !strings.Contains(class, "/")
}

// found is a device and the file that has it.
type found struct {
	file *cdiFile
	edit *edits
	path string
}

// registry reads all files. One that is damaged is an error only for who asks for a device that is not found.
func registry() (devices map[string]found, damaged error) {
	devices = map[string]found{}
	for _, dir := range Folders {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		here := map[string]bool{}
		for _, entry := range entries {
			path := filepath.Join(dir, entry.Name())
			switch filepath.Ext(path) {
			case ".json", ".yaml", ".yml":
			default:
				continue
			}
			f, err := read(path)
			if err != nil {
				damaged = errors.Join(damaged, fmt.Errorf("%s: %w", path, err))
				continue
			}
			for i := range f.Devices {
				name := f.Kind + "=" + f.Devices[i].Name
				if here[name] { // of two in one folder neither counts
					damaged = errors.Join(damaged, fmt.Errorf("%s is in %s and %s", name, devices[name].path, path))
					delete(devices, name)
					continue
				}
				here[name] = true
				devices[name] = found{f, &f.Devices[i].Edits, path}
			}
		}
	}
	return devices, damaged
}

func read(path string) (*cdiFile, error) {
	fi, err := os.Stat(path)
	if err == nil && (!fi.Mode().IsRegular() || fi.Size() > largestFile) {
		err = errors.New("it is no file, or too large")
	}
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(b)
}

// parse reads a file, JSON or YAML, whose names and numbers are JSON's.
func parse(b []byte) (*cdiFile, error) {
	if text := bytes.TrimSpace(b); !bytes.HasPrefix(text, []byte("{")) {
		v, err := readYAML(b)
		if err == nil {
			b, err = json.Marshal(v)
		}
		if err != nil {
			return nil, err
		}
	}
	f := new(cdiFile)
	if err := json.Unmarshal(b, f); err != nil {
		return nil, err
	}
	if !IsCDI(f.Kind + "=x") {
		return nil, fmt.Errorf("kind %q is not VENDOR/CLASS", f.Kind)
	}
	if major, _, _ := strings.Cut(f.Version, "."); major != "0" && major != "1" {
		return nil, fmt.Errorf("version %q is unknown", f.Version)
	}
	return f, nil
}

// Resolve says which CDI devices a container's requests (--gpus, --device VENDOR/CLASS=NAME) mean, in their order. One that
// no file has is an error of kind NotFound.
func Resolve(requests []docker.DeviceRequest) (names []string, err error) {
	if len(requests) == 0 {
		return nil, nil
	}
	all, damaged := registry()
	for _, r := range requests {
		wanted := r.DeviceIDs
		if r.Driver != "cdi" {
			if wanted, err = gpus(&r, all); err != nil {
				return nil, err
			}
		}
		for _, name := range wanted {
			if _, ok := all[name]; !ok {
				cause := errors.Join(fmt.Errorf("no file in %s has it", strings.Join(Folders, ", ")), damaged)
				return nil, errs.New(errs.NotFound, "find CDI device "+name, cause).WithHint(hint(all))
			}
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func hint(all map[string]found) string {
	var names []string
	for name := range all {
		names = append(names, name)
	}
	if len(names) == 0 {
		return "a device's vendor has a tool that writes its file, as `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`"
	}
	slices.Sort(names)
	return "there are " + strings.Join(names, " ")
}

// gpus are the devices of a vendor of GPUs, which is asked for without its name: nvidia if it is there, else the only one.
func gpus(r *docker.DeviceRequest, all map[string]found) ([]string, error) {
	var kinds []string
	for name := range all {
		if kind, _, _ := strings.Cut(name, "="); strings.HasSuffix(kind, "/gpu") && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	kind := "nvidia.com/gpu"
	if len(kinds) > 0 && !slices.Contains(kinds, kind) {
		if len(kinds) > 1 {
			slices.Sort(kinds)
			return nil, errs.Text(errs.Invalid, "could not select device driver: several vendors have GPUs: "+strings.Join(kinds, " ")).WithHint("--device VENDOR/gpu=NAME")
		}
		kind = kinds[0]
	}
	switch {
	case len(r.DeviceIDs) > 0:
		var out []string
		for _, id := range r.DeviceIDs {
			out = append(out, kind+"="+id)
		}
		return out, nil
	case r.Count < 0:
		return []string{kind + "=all"}, nil
	}
	var out []string
	for i := range r.Count {
		out = append(out, kind+"="+strconv.Itoa(i))
	}
	return out, nil
}

// Inject edits a specification as the files of devices say. Names are those that [Resolve] has found.
func Inject(s *specs.Spec, names []string) error {
	if len(names) == 0 {
		return nil
	}
	all, _ := registry()
	done := map[*cdiFile]bool{}
	for _, name := range names {
		d, ok := all[name]
		if !ok {
			return errs.Text(errs.NotFound, "find CDI device "+name+": its file is gone").WithHint(hint(all))
		}
		list := []*edits{d.edit}
		if !done[d.file] {
			list, done[d.file] = []*edits{&d.file.Edits, d.edit}, true
		}
		for _, e := range list {
			if err := e.apply(s); err != nil {
				return errs.New(errs.Invalid, "add CDI device "+name, fmt.Errorf("%s: %w", d.path, err))
			}
		}
	}
	return nil
}

func (e *edits) apply(s *specs.Spec) error {
	if len(e.NetDevices)+len(e.IntelRdt) > 0 {
		return errors.New("netDevices and intelRdt are not supported")
	}
	for _, v := range e.Env {
		if !strings.Contains(v, "=") {
			return fmt.Errorf("%q is no variable", v)
		}
		name, _, _ := strings.Cut(v, "=")
		s.Process.Env = append(slices.DeleteFunc(s.Process.Env, func(have string) bool { return strings.HasPrefix(have, name+"=") }), v)
	}
	for i := range e.DeviceNodes {
		if err := e.DeviceNodes[i].apply(s); err != nil {
			return err
		}
	}
	for _, m := range e.Mounts {
		out := specs.Mount{Destination: m.ContainerPath, Source: m.HostPath, Type: m.Type, Options: m.Options}
		if !filepath.IsAbs(out.Destination) || !filepath.IsAbs(out.Source) && (out.Type == "" || out.Type == "bind") {
			return fmt.Errorf("mount of %q on %q: both are to be absolute", m.HostPath, m.ContainerPath)
		}
		if out.Type == "" {
			out.Type = "bind"
		}
		if out.Type == "bind" && !slices.Contains(out.Options, "bind") && !slices.Contains(out.Options, "rbind") {
			out.Options = append([]string{"rbind"}, out.Options...)
		}
		s.Mounts = append(s.Mounts, out)
	}
	for _, h := range e.Hooks {
		if s.Hooks == nil {
			s.Hooks = &specs.Hooks{}
		}
		lists := map[string]*[]specs.Hook{"prestart": &s.Hooks.Prestart, "createRuntime": &s.Hooks.CreateRuntime, "createContainer": &s.Hooks.CreateContainer, //nolint:staticcheck // CDI has it
			"startContainer": &s.Hooks.StartContainer, "poststart": &s.Hooks.Poststart, "poststop": &s.Hooks.Poststop}
		list := lists[h.Name]
		if list == nil {
			return fmt.Errorf("hook %q is unknown", h.Name)
		}
		*list = append(*list, specs.Hook{Path: h.Path, Args: h.Args, Env: h.Env, Timeout: h.Timeout})
	}
	for _, gid := range e.AdditionalGIDs {
		if gid != 0 && !slices.Contains(s.Process.User.AdditionalGids, gid) {
			s.Process.User.AdditionalGids = append(s.Process.User.AdditionalGids, gid)
		}
	}
	return nil
}

// apply makes a device node; what the file leaves out is the host's.
func (d *deviceNode) apply(s *specs.Spec) error {
	host := d.HostPath
	if host == "" {
		host = d.Path
	}
	out := specs.LinuxDevice{Path: d.Path, Type: d.Type, FileMode: d.FileMode, UID: d.UID, GID: d.GID}
	if !filepath.IsAbs(d.Path) {
		return fmt.Errorf("device %q: its path is to be absolute", d.Path)
	}
	if d.Major != nil && d.Minor != nil && d.Type != "" {
		out.Major, out.Minor = *d.Major, *d.Minor
	} else {
		var st unix.Stat_t
		err := unix.Stat(host, &st)
		kind, ok := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b", unix.S_IFIFO: "p"}[st.Mode&unix.S_IFMT]
		if err == nil && (!ok || d.Type != "" && d.Type != kind) {
			err = errors.New("it is not such a device")
		}
		if err != nil {
			return &fs.PathError{Op: "add device", Path: host, Err: err}
		}
		out.Type, out.Major, out.Minor = kind, int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
		if out.FileMode == nil {
			mode := os.FileMode(st.Mode & 0o777)
			out.FileMode = &mode
		}
	}
	access := d.Permissions
	if access == "" {
		access = "rw"
	}
	if strings.Trim(access, "rwm") != "" {
		return fmt.Errorf("device %s: permissions %q are unknown", d.Path, access)
	}
	s.Linux.Devices = append(slices.DeleteFunc(s.Linux.Devices, func(have specs.LinuxDevice) bool { return have.Path == out.Path }), out)
	if out.Type == "c" || out.Type == "b" {
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: out.Type, Major: &out.Major, Minor: &out.Minor, Access: access})
	}
	return nil
}
