//go:build linux

package monitor

import (
	"time"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/monitor/logs"
	"github.com/berth-containers/berth/network/dns"
)

// Config is all that a monitor is told, in one message of JSON.
type Config struct {
	ID      string          `json:"id"`
	Dir     string          `json:"dir"`     // of the running container: status.json, control.sock, trace, rootfs
	Runtime string          `json:"runtime"` // package container's folder of states
	Bundle  string          `json:"bundle"`
	Plan    *container.Plan `json:"plan"`
	Overlay *Overlay        `json:"overlay,omitempty"` // nil: the plan's root as it is

	Log       logs.Config `json:"log"`
	OpenStdin bool        `json:"openStdin,omitempty"` // the program can be written to
	StdinOnce bool        `json:"stdinOnce,omitempty"` // and its input ends when the first writer leaves

	StopSignal  int           `json:"stopSignal"`
	StopTimeout time.Duration `json:"stopTimeout"`       // before SIGKILL; negative: never
	Timeout     time.Duration `json:"timeout,omitempty"` // the container is stopped after it
	Restart     Restart       `json:"restart,omitzero"`
	Restarts    int           `json:"restarts,omitempty"` // so many were there before
	Health      *Health       `json:"health,omitempty"`

	Names *Names `json:"names,omitempty"` // answers questions for names in the container's network; nil: nobody does

	Journal *Journal `json:"journal,omitempty"` // nil: nobody is told what happens

	Begun  string   `json:"begun"`            // file that tells of the program's begin, until its end is told there
	Exit   string   `json:"exit,omitempty"`   // file that tells the end, the same; "": nobody will ask
	Undo   Undo     `json:"undo"`             // whatever happens
	Remove []string `json:"remove,omitempty"` // files and folders that go with the container (--rm), in this order
	Idle   []Idle   `json:"idle,omitempty"`   // volumes that nobody needs after Remove, unless somebody else has them

	Steps []byte `json:"steps,omitempty"` // what the engine did before, packed (trace.Pack)
}

// Idle is a volume that is not kept as it is when no container has it any more: its folder users is empty.
type Idle struct {
	Dir  string `json:"dir"`
	Drop bool   `json:"drop,omitempty"` // it goes; otherwise its device is unmounted
}

// Overlay is the container's root: an image's layers under a layer of its own.
type Overlay struct {
	Lowers   []string `json:"lowers"` // top first
	Upper    string   `json:"upper"`
	Work     string   `json:"work"`
	Volatile bool     `json:"volatile,omitempty"` // nothing of it survives the container
	// Mapped says that the files keep the image's owners, seen through the id maps of the container's user namespace.
	Mapped bool `json:"mapped,omitempty"`
}

// Restart is when an ended container is started again.
type Restart struct {
	Policy  string `json:"policy,omitempty"`  // "", no, always, unless-stopped, on-failure
	Retries int    `json:"retries,omitempty"` // of on-failure; 0: for ever
}

// Health is a command that tells whether the container does what it is there for.
type Health struct {
	Test          []string      `json:"test"` // a command line
	Interval      time.Duration `json:"interval"`
	Timeout       time.Duration `json:"timeout"`
	StartPeriod   time.Duration `json:"startPeriod,omitempty"` // failures do not count
	StartInterval time.Duration `json:"startInterval,omitempty"`
	Retries       int           `json:"retries"`             // so many failures in a row are unhealthy
	OnFailure     string        `json:"onFailure,omitempty"` // none, restart, stop, kill
}

// Names says what a container is told when it asks for a name.
type Names struct {
	Namespace string       `json:"namespace"` // path of the network namespace
	Zone      dns.Zone     `json:"zone"`
	Upstream  dns.Upstream `json:"upstream"`
	Repair    *Repair      `json:"repair,omitempty"` // nil: nobody looks after the firewall
	Egress    *dns.Egress  `json:"egress,omitempty"` // nil: every name may be asked for
}

// Undo is what must not be left when the container has ended.
type Undo struct {
	Unmount []string `json:"unmount,omitempty"` // mount points, whose files are removed as well
	Files   []string `json:"files,omitempty"`
	Batches [][]byte `json:"batches,omitempty"` // for nftables, each on its own
}

// Exit is how a container's program ended.
type Exit struct {
	Code       int       `json:"code"`             // 0–255; 128+n for signal n
	Signal     int       `json:"signal,omitempty"` // the signal that ended it, or 0
	OOMKilled  bool      `json:"oom,omitempty"`    // the kernel has ended a process of the container for lack of memory
	StartedAt  time.Time `json:"started,omitzero"`
	FinishedAt time.Time `json:"finished"`
	Restarts   int       `json:"restarts,omitempty"`
	By         string    `json:"by,omitempty"`      // who asked for the end: stop, kill, health, timeout, shutdown; "": nobody
	Error      string    `json:"error,omitempty"`   // why it could not start
	Pid        int       `json:"pid,omitempty"`     // on the host, of the program
	Unknown    bool      `json:"unknown,omitempty"` // nobody can say how it ended: Code only stands for that
	Unseen     bool      `json:"unseen,omitempty"`  // nobody saw the end: this was written at the begin, for the case that the host goes down

	Marks *cgroup.Marks `json:"marks,omitempty"` // what its control group has seen; nil when nobody will ask
}
