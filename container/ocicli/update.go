//go:build linux

package ocicli

import (
	"encoding/json"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/berth-containers/berth/container"
	"github.com/berth-containers/berth/internal/errs"
	"github.com/berth-containers/berth/linux/cgroup"
)

// bytes reads a number of bytes with a unit: 100m, 1G, -1.
func bytes(s string) (int64, error) {
	shift := 0
	text := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(s), "b"), "i")
	if n := len(text); n > 0 {
		if i := strings.IndexByte("kmgt", text[n-1]); i >= 0 {
			shift, text = 10*(i+1), text[:n-1]
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || shift > 0 && (n < 0 || n > (1<<62)>>shift) {
		return 0, errs.Text(errs.Invalid, "invalid value for a number of bytes: "+s)
	}
	return n << shift, nil
}

// limitFlags are the options of update; each sets one value.
func limitFlags(c *call) func() (*specs.LinuxResources, error) {
	names := map[string]*string{}
	for _, f := range [...][2]string{
		{"memory", "memory limit in bytes"}, {"memory-reservation", "memory soft limit in bytes"}, {"memory-swap", "memory and swap in bytes, -1: no limit"},
		{"cpu-period", "microseconds"}, {"cpu-quota", "microseconds in each period"}, {"cpu-share", "relative weight"}, {"cpu-burst", "microseconds"},
		{"cpu-rt-period", "microseconds"}, {"cpu-rt-runtime", "microseconds"}, {"cpuset-cpus", "CPUs (0-3,7)"}, {"cpuset-mems", "memory nodes (0-3,7)"},
		{"cpu-idle", "0 or 1"}, {"pids-limit", "number of processes"}, {"blkio-weight", "10 to 1000"}, {"kernel-memory", "ignored"}, {"kernel-memory-tcp", "ignored"},
		{"l3-cache-schema", "needs a host with resctrl"}, {"mem-bw-schema", "needs a host with resctrl"},
	} {
		names[f[0]] = c.String(f[0], "", f[1])
	}
	return func() (*specs.LinuxResources, error) {
		r := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}}
		if *names["l3-cache-schema"]+*names["mem-bw-schema"] != "" {
			return nil, errs.Text(errs.Unsupported, "this runtime has no resctrl groups")
		}
		for name, to := range map[string]**int64{"memory": &r.Memory.Limit, "memory-reservation": &r.Memory.Reservation, "memory-swap": &r.Memory.Swap,
			"cpu-quota": &r.CPU.Quota, "cpu-rt-runtime": &r.CPU.RealtimeRuntime, "cpu-idle": &r.CPU.Idle} {
			if *names[name] == "" {
				continue
			}
			n, err := bytes(*names[name])
			if err != nil {
				return nil, err
			}
			*to = &n
		}
		for name, to := range map[string]**uint64{"cpu-period": &r.CPU.Period, "cpu-share": &r.CPU.Shares, "cpu-rt-period": &r.CPU.RealtimePeriod, "cpu-burst": &r.CPU.Burst} {
			if *names[name] == "" {
				continue
			}
			n, err := strconv.ParseUint(*names[name], 10, 64)
			if err != nil {
				return nil, errs.Text(errs.Invalid, "invalid value for "+name+": "+*names[name])
			}
			*to = &n
		}
		r.CPU.Cpus, r.CPU.Mems = *names["cpuset-cpus"], *names["cpuset-mems"]
		if text := *names["pids-limit"]; text != "" {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, errs.Text(errs.Invalid, "invalid value for pids-limit: "+text)
			}
			r.Pids = &specs.LinuxPids{Limit: &n}
		}
		if text := *names["blkio-weight"]; text != "" {
			n, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				return nil, errs.Text(errs.Invalid, "invalid value for blkio-weight: "+text)
			}
			w := uint16(n)
			r.BlockIO = &specs.LinuxBlockIO{Weight: &w}
		}
		return r, nil
	}
}

func (p *program) update(c *call) error {
	file := c.String("resources", "", "file with limits as JSON, - is standard input")
	c.StringVar(file, "r", "", "file with limits as JSON, - is standard input")
	limits := limitFlags(c)
	if err := p.parse(c, 1, 1); err != nil {
		return err
	}
	ct, err := p.open(c)
	if err != nil {
		return err
	}
	r, err := limits()
	if err != nil {
		return err
	}
	if *file != "" {
		in := os.Stdin
		if *file != "-" {
			if in, err = os.Open(*file); err != nil {
				return errs.New(errs.Invalid, "read limits", err)
			}
			defer in.Close()
		}
		b, err := io.ReadAll(io.LimitReader(in, largestSpec))
		if err == nil {
			r = &specs.LinuxResources{}
			err = json.Unmarshal(b, r)
		}
		if err != nil {
			return errs.New(errs.Invalid, "read limits", err)
		}
	}
	return ct.Update(r)
}

// event is a line of events, as runc's.
type event struct {
	Type string        `json:"type"`
	ID   string        `json:"id"`
	Data *cgroup.Stats `json:"data,omitempty"`
}

func (p *program) events(c *call) error {
	interval := c.Duration("interval", 5*time.Second, "between two lines of statistics")
	once := c.Bool("stats", false, "one line of statistics")
	if err := p.parse(c, 1, 1); err != nil {
		return err
	}
	if *interval <= 0 {
		return errs.Text(errs.Invalid, "duration interval must be greater than 0")
	}
	ct, err := p.open(c)
	if err != nil {
		return err
	}
	if ct.Status() == specs.StateStopped {
		return errs.Text(errs.Conflict, "container with id "+ct.ID+" is not running")
	}
	for {
		stats, err := ct.Group().Stats()
		if err != nil {
			return err
		}
		if err := json.NewEncoder(p.out).Encode(event{"stats", ct.ID, stats}); err != nil || *once {
			return err
		}
		if ended, err := p.waitForMemory(ct, *interval); ended || err != nil {
			return err
		}
	}
}

// waitForMemory waits for the next statistics, and tells meanwhile when memory runs out.
func (p *program) waitForMemory(ct *container.Container, interval time.Duration) (ended bool, err error) {
	watch, err := ct.Group().OOMEvents()
	if err != nil {
		return false, err
	}
	defer watch.Close()
	until := time.Now().Add(interval)
	before := ct.OOMKills()
	for {
		left := time.Until(until)
		if ct.Status() == specs.StateStopped {
			return true, nil
		}
		if left <= 0 {
			return false, nil
		}
		fds := []unix.PollFd{{Fd: int32(watch.Fd()), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, int(min(left, time.Second).Milliseconds())+1); n <= 0 {
			continue
		}
		_, _ = unix.Read(int(watch.Fd()), make([]byte, 4096))
		if now := ct.OOMKills(); now > before {
			before = now
			if err := json.NewEncoder(p.out).Encode(event{Type: "oom", ID: ct.ID}); err != nil {
				return false, err
			}
		}
	}
}
