//go:build linux

package engine

import (
	"io"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/berth-containers/berth/engine/files"
	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/engine/secret"
	"github.com/berth-containers/berth/monitor"
	"github.com/berth-containers/berth/monitor/event"
)

// Default folders, used when [Options] and the environment (BERTH_ROOT, BERTH_STATE) name none.
const (
	DefaultRoot  = "/var/lib/berth"
	DefaultState = "/run/berth"
)

// Options says which engine: two folders.
type Options struct {
	Root  string // data that survives a reboot; "": $BERTH_ROOT, else [DefaultRoot]
	State string // what describes running processes; "": $BERTH_STATE, else [DefaultState]
}

// Config is what the user asked for when a container was created, kept as containers/<id>/config.json. The first
// three parts are the body of Docker's POST /containers/create, with Docker's names; the rest is what Docker's API
// cannot say.
//
// Modes go beyond Docker's where the kernel does:
//
//	NetworkMode   none, host, container:ID, ns:/path, or a network's name ("", "default": bridge)
//	PidMode, UTSMode, IpcMode, CgroupnsMode  private, host, container:ID
//	UsernsMode    "" or host: none; private: root of the container is an unprivileged user, from the ranges of
//	              /etc/subuid; auto: a range of 65,536 of its own; UID:GID:SIZE: that range;
//	              container:ID, ns:/path: one that is there
type Config struct {
	docker.Config
	HostConfig       docker.HostConfig
	NetworkingConfig network.NetworkingConfig

	Name     string   // "": one is generated
	Argv     []string // the command line that asked, for `inspect --as run`
	Platform string   `json:",omitempty"` // os/arch[/variant] of the image; "": this host's
	Timens   string   `json:",omitempty"` // time namespace: "" or private, host, container:ID

	MountOwners     map[string]mountpoint.Owner `json:",omitempty"` // target of a --mount → whose its files are
	Secrets         []secret.Secret             `json:",omitempty"` // without their values
	CgroupConf      map[string]string           `json:",omitempty"` // cgroup v2 file → value ("memory.high" → "100M")
	Hugepages       map[string]uint64           `json:",omitempty"` // page size ("2MB") → limit in bytes
	HealthOnFailure string                      `json:",omitempty"` // none, restart, stop, kill
	Timeout         time.Duration               `json:",omitempty"` // the container is stopped after this time; 0: never
	Egress          []string                    `json:",omitempty"` // what it may reach, as [egress.Parse] reads it; empty: everything
	LANPorts        map[string]bool             `json:",omitempty"` // published ports, by [ports.Key], that only neighbours reach
}

// Size is a terminal's size in characters.
type Size = monitor.Size

// Streams connects a caller with the standard streams of a process. The caller's terminal, if there is one, is the
// caller's business: it is never handed to a container (a process inside could push input into it by TIOCSTI).
type Streams struct {
	Stdin          io.Reader // nil: not attached
	Stdout, Stderr io.Writer // nil: not attached. With a pty everything comes as Stdout
	DetachKeys     string    // as "ctrl-p,ctrl-q", which is what "" means; "none": no keys
	Resize         <-chan Size
	Logs           bool // Attach: first what was logged so far
}

// Exit is how a container's program ended.
type Exit = monitor.Exit

// StartOptions of [Container.Start].
type StartOptions struct {
	Streams *Streams // attached from the first byte; nil: not
}

// ExecConfig is a further process in a running container.
type ExecConfig struct {
	docker.ExecCreateRequest      // Docker's body of POST /containers/{id}/exec: User Privileged Tty Env WorkingDir Cmd …
	Detach                   bool // do not wait for it
}

// StopOptions of [Container.Stop] and [Container.Restart].
type StopOptions struct {
	Signal  string         // "": the container's stop signal
	Timeout *time.Duration // before SIGKILL; nil: the container's, 10 s by default; negative: never
	By      string         // who asks: "shutdown" is not the user's wish, and "" is
}

// RemoveOptions of [Container.Remove].
type RemoveOptions struct {
	Force   bool // a running container is killed first
	Volumes bool // its anonymous volumes go, too
}

// ListOptions of [Engine.List].
type ListOptions struct {
	All     bool // not only running containers
	Size    bool // fill in SizeRw and SizeRootFs
	Limit   int  // the N last created ones, whatever their state; 0: no limit
	Filters Filters
}

// Filters are Docker's: different keys are ANDed, values of the same key ORed.
type Filters map[string][]string

// CopyOptions of [Container.CopyFrom] and [Container.CopyTo].
type CopyOptions = files.Options

// CommitOptions of [Container.Commit].
type CommitOptions struct {
	Ref, Author, Message string
	Changes              []string // Dockerfile instructions
	NoPause              bool
}

// ImportOptions of [Engine.Import].
type ImportOptions struct {
	Ref, Message, Platform string
	Changes                []string // Dockerfile instructions
}

// EventOptions of [Engine.Events].
type EventOptions struct {
	event.Options
	Filters Filters
}
