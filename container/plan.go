//go:build linux

package container

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/linux/caps"
	"github.com/berth-containers/berth/linux/namespace"
	"github.com/berth-containers/berth/linux/seccomp"
)

// Plan is the one reduction of a specification: all that a start needs, checked, in a form that a fresh process decodes
// in a fifth of the time that the specification takes.
type Plan struct {
	Root        Root              `json:"root"`
	Hostname    string            `json:"hostname,omitempty"`
	Domainname  string            `json:"domainname,omitempty"`
	Namespaces  []Namespace       `json:"namespaces,omitempty"`
	UIDMaps     []namespace.IDMap `json:"uidMaps,omitempty"`
	GIDMaps     []namespace.IDMap `json:"gidMaps,omitempty"`
	TimeOffsets string            `json:"timeOffsets,omitempty"` // as /proc/PID/timens_offsets takes them
	Mounts      []Mount           `json:"mounts,omitempty"`
	MountLabel  string            `json:"mountLabel,omitempty"` // SELinux's context of all files in new file systems
	Devices     []Device          `json:"devices,omitempty"`
	Masked      []string          `json:"masked,omitempty"`
	Readonly    []string          `json:"readonly,omitempty"`
	Sysctl      map[string]string `json:"sysctl,omitempty"`
	Process     *Process          `json:"process,omitempty"`
	Seccomp     *Seccomp          `json:"seccomp,omitempty"`
	Hooks       *specs.Hooks      `json:"hooks,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`

	Personality  *uint32       `json:"personality,omitempty"` // personality(2)
	MemoryPolicy *MemoryPolicy `json:"memoryPolicy,omitempty"`

	CgroupsPath string                `json:"cgroupsPath,omitempty"`
	Resources   *specs.LinuxResources `json:"resources,omitempty"`

	NetDevices map[string]string `json:"netDevices,omitempty"` // a device of the host → its name in the container
}

// Root is the container's root file system.
type Root struct {
	Path        string `json:"path"` // absolute, on the host
	Readonly    bool   `json:"readonly,omitempty"`
	Propagation string `json:"propagation,omitempty"` // of /; "" is private
}

// Namespace is one namespace of the container: new, or an existing one.
type Namespace struct {
	Kind string `json:"kind"`           // the OCI's word
	Path string `json:"path,omitempty"` // "": new
}

// Mount is one mount, in the specification's words.
type Mount struct {
	Destination string   `json:"destination"` // absolute, clean
	Type        string   `json:"type,omitempty"`
	Source      string   `json:"source,omitempty"`
	Options     []string `json:"options,omitempty"`

	UIDMaps []namespace.IDMap `json:"uidMaps,omitempty"` // owners on disk → owners that are seen; both or none
	GIDMaps []namespace.IDMap `json:"gidMaps,omitempty"`
	Handle  int               `json:"handle,omitempty"` // descriptor of the mount in init, which the parent has made
}

// Device is a device node to make.
type Device struct {
	Path  string `json:"path"`
	Mode  uint32 `json:"mode"` // type bits and permissions, as mknod(2)
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
	UID   int    `json:"uid,omitempty"`
	GID   int    `json:"gid,omitempty"`
}

// Process is a program in the container: its first one, or a further one.
type Process struct {
	Args            []string        `json:"args"`
	Env             []string        `json:"env,omitempty"`
	Cwd             string          `json:"cwd"`
	Terminal        bool            `json:"terminal,omitempty"`
	Width           uint16          `json:"width,omitempty"` // of the terminal, in characters
	Height          uint16          `json:"height,omitempty"`
	UID             uint32          `json:"uid,omitempty"`
	GID             uint32          `json:"gid,omitempty"`
	Groups          []uint32        `json:"groups,omitempty"` // supplementary ones, exactly these
	Umask           *uint32         `json:"umask,omitempty"`
	Caps            caps.Sets       `json:"caps"`
	NoNewPrivileges bool            `json:"noNewPrivileges,omitempty"`
	Rlimits         []Rlimit        `json:"rlimits,omitempty"`
	OOMScoreAdj     *int            `json:"oomScoreAdj,omitempty"`
	IOPriority      *int            `json:"ioPriority,omitempty"` // as ioprio_set(2) takes it
	Affinity        []uint64        `json:"affinity,omitempty"`   // CPUs of a further process, 64 each; nil: all
	Scheduler       *unix.SchedAttr `json:"scheduler,omitempty"`
	Reaper          bool            `json:"reaper,omitempty"`   // a process of ours stays the first one: reaper.go. No specification has it
	AppArmor        string          `json:"appArmor,omitempty"` // a profile
	SELinux         string          `json:"selinux,omitempty"`  // a context

	Ignored []string `json:"-"` // what was asked for and cannot be, in words for people

	inCwd bool // the working directory is entered already
}

// Rlimit is a resource limit (getrlimit(2)).
type Rlimit struct {
	Name string `json:"name"` // RLIMIT_NOFILE
	Soft uint64 `json:"soft"`
	Hard uint64 `json:"hard"`
}

// Seccomp is a compiled filter, and where its listener goes.
type Seccomp struct {
	Program          *seccomp.Program `json:"program"`
	ListenerPath     string           `json:"listenerPath,omitempty"`
	ListenerMetadata string           `json:"listenerMetadata,omitempty"`
}

// has reports whether the container gets a namespace of a kind, new or given.
func (p *Plan) has(kind string) bool {
	for _, n := range p.Namespaces {
		if n.Kind == kind {
			return true
		}
	}
	return false
}

// fresh reports whether the container gets a new namespace of a kind.
func (p *Plan) fresh(kind string) bool {
	for _, n := range p.Namespaces {
		if n.Kind == kind && n.Path == "" {
			return true
		}
	}
	return false
}

// given is the path of the existing namespace of a kind that the container gets; "" when there is none.
func (p *Plan) given(kind string) string {
	for _, n := range p.Namespaces {
		if n.Kind == kind {
			return n.Path
		}
	}
	return ""
}
