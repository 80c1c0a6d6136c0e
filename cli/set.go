//go:build linux

package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/limits"
	"github.com/berth-containers/berth/engine/ports"
	"github.com/berth-containers/berth/internal/errs"
)

// registerLimits makes the flags of those limits that can change while a container runs.
func (f *runFlags) registerLimits(fs *pflag.FlagSet) {
	fs.VarP(&f.memory, "memory", "m", "Memory limit")
	fs.Var(&f.memorySwap, "memory-swap", "Swap limit equal to memory plus swap: -1 to enable unlimited swap")
	fs.Var(&f.memoryReservation, "memory-reservation", "Memory soft limit")
	fs.Int64Var(&f.swappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100)")
	fs.Var(&f.cpus, "cpus", "Number of CPUs")
	fs.Int64VarP(&f.h.CPUShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	fs.Int64Var(&f.h.CPUPeriod, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	fs.Int64Var(&f.h.CPUQuota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	fs.Int64Var(&f.h.CPURealtimePeriod, "cpu-rt-period", 0, "Limit the CPU real-time period in microseconds")
	fs.Int64Var(&f.h.CPURealtimeRuntime, "cpu-rt-runtime", 0, "Limit the CPU real-time runtime in microseconds")
	fs.StringVar(&f.h.CpusetCpus, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	fs.StringVar(&f.h.CpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	fs.Int64Var(&f.pidsLimit, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
	fs.Uint16Var(&f.h.BlkioWeight, "blkio-weight", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)")
	fs.Var(&f.blkioWeightDevice, "blkio-weight-device", "Block IO weight (relative device weight)")
	fs.Var(&f.deviceReadBps, "device-read-bps", "Limit read rate (bytes per second) from a device; 0 is no limit")
	fs.Var(&f.deviceWriteBps, "device-write-bps", "Limit write rate (bytes per second) to a device; 0 is no limit")
	fs.Var(&f.deviceReadIOps, "device-read-iops", "Limit read rate (IO per second) from a device; 0 is no limit")
	fs.Var(&f.deviceWriteIOps, "device-write-iops", "Limit write rate (IO per second) to a device; 0 is no limit")
	fs.Var(&f.hugepages, "hugetlb", "Limit huge pages: SIZE=BYTES, as 2MB=64m")
	fs.Var(&f.ulimit, "ulimit", "Ulimit options")
	fs.Var(&f.deviceRule, "device-cgroup-rule", "Add a rule to the cgroup allowed devices list")
}

// registerUpdate makes the flags of update, which are set's, too.
func (f *runFlags) registerUpdate(fs *pflag.FlagSet) {
	f.flags, f.h = fs, &f.c.HostConfig
	f.registerLimits(fs)
	fs.StringVar(&f.restart, "restart", "", "Restart policy to apply when a container exits")
}

// updateOptions reads them.
func (f *runFlags) updateOptions() (o engine.UpdateOptions, err error) {
	if err := f.useLimits(); err != nil {
		return o, err
	}
	if err := f.useDevices(); err != nil {
		return o, err
	}
	o.Resources, o.Hugepages = f.h.Resources, f.c.Hugepages
	if f.restart != "" {
		if err := f.useRestart(); err != nil {
			return o, err
		}
		o.RestartPolicy = f.h.RestartPolicy
	}
	return o, nil
}

// setFlags are the flags of set.
type setFlags struct {
	runFlags
	unmount, unpublish, removeLabels listFlag
	yes, dryRun                      bool
}

func newSet(a *app) *cobra.Command {
	s := &setFlags{}
	cmd := &cobra.Command{
		Use: "set [OPTIONS] CONTAINER", Short: "Change limits, ports, mounts, variables and labels of a container that exists", Args: exactArgs(1),
		Long: "Change a container that exists. Limits, ports, mounts, labels and the restart policy change while it runs. For variables, user, working directory and host name it is stopped and started with its name, id, write layer, volumes and networks: that is asked first.",
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := s.changes()
			if err != nil {
				return err
			}
			return a.withContainer(args[0], func(c *engine.Container) error { return a.set(c, s, o) })
		},
	}
	fs := cmd.Flags()
	s.registerUpdate(fs)
	fs.VarP(&s.publish, "publish", "p", "Publish a container's port(s) to the host")
	fs.Var(&s.unpublish, "unpublish", "Publish a port no more: [HOST_PORT:]CONTAINER_PORT[/PROTOCOL]")
	fs.VarP(&s.volume, "volume", "v", "Bind mount a volume")
	fs.Var(&s.mounts, "mount", "Attach a filesystem mount to the container")
	fs.Var(&s.tmpfs, "tmpfs", "Mount a tmpfs directory")
	fs.Var(&s.unmount, "unmount", "Take the mount at a path away")
	fs.VarP(&s.env, "env", "e", "Set environment variables; a name without = takes one away")
	fs.VarP(&s.label, "label", "l", "Set meta data on a container")
	fs.Var(&s.removeLabels, "label-rm", "Take a label away")
	fs.StringVarP(&s.c.User, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	fs.VarP((*folderFlag)(&s.c.WorkingDir), "workdir", "w", "Working directory inside the container")
	fs.StringVar(&s.c.Hostname, "hostname", "", "Container host name")
	fs.BoolVarP(&s.yes, "yes", "y", false, "Stop and start the container if need be, without asking")
	fs.BoolVar(&s.dryRun, "dry-run", false, "Say what would be done, and do nothing")
	return cmd
}

// changes reads the flags.
func (s *setFlags) changes() (*engine.Changes, error) {
	limits, err := s.updateOptions()
	if err != nil {
		return nil, err
	}
	if err := s.useStorage(); err != nil {
		return nil, err
	}
	for v := range s.c.Volumes {
		return nil, invalid("-v %s: an anonymous volume comes with a new container only", v)
	}
	for _, e := range s.env {
		if name, _, _ := strings.Cut(e, "="); name == "" {
			return nil, invalid("invalid environment variable: %s", e)
		}
	}
	s.c.Env, s.c.Labels = s.env, pairs(s.label)
	if _, s.h.PortBindings, s.c.LANPorts, err = ports.Parse(s.publish, nil); err != nil {
		return nil, err
	}
	return &engine.Changes{UpdateOptions: limits, Config: s.c, Unmount: s.unmount, Unpublish: s.unpublish, RemoveLabels: s.removeLabels}, nil
}

// set says what it is going to do, asks if the container is to be stopped, and does it.
func (a *app) set(c *engine.Container, s *setFlags, o *engine.Changes) error {
	steps := s.steps(o)
	if len(steps) == 0 {
		return errs.Text(errs.Invalid, "nothing to change was named").WithHint("berth set --help")
	}
	running, stop := c.Running(), false
	for _, step := range steps {
		how := "live"
		if !running {
			how = "at its next start"
		} else if !step.live {
			how, stop = "stop and start", true
		}
		fmt.Fprintf(a.err, "%-40s %s\n", step.text, how)
	}
	if s.dryRun {
		return nil
	}
	if stop && !s.yes && !a.confirm("The container is stopped and started, with its name, write layer, volumes and networks.") {
		return errs.Text(errs.Conflict, "canceled: the container was not changed").WithHint("--yes does not ask")
	}
	if err := c.Set(*o); err != nil {
		return err
	}
	for _, note := range c.Notes {
		fmt.Fprintln(a.err, "WARNING: "+note)
	}
	fmt.Fprintln(a.out, strings.TrimPrefix(c.Name, "/"))
	return nil
}

// setStep is one change, as a user is told of it.
type setStep struct {
	text string
	live bool // the running container does not notice; else it is stopped and started with all that it has
}

// steps says what will be done.
func (s *setFlags) steps(o *engine.Changes) (out []setStep) {
	add := func(live bool, what, verb string) { out = append(out, setStep{what + " " + verb, live}) }
	for _, b := range o.HostConfig.Binds {
		add(true, "mount", b)
	}
	for _, m := range o.HostConfig.Mounts {
		add(true, "mount", strings.Join(strings.Fields(string(m.Type)+" "+m.Source), " ")+" on "+m.Target)
	}
	for _, t := range slices.Sorted(maps.Keys(o.HostConfig.Tmpfs)) {
		add(true, "mount", "tmpfs on "+t)
	}
	for _, t := range o.Unmount {
		add(true, "unmount", t)
	}
	for port, bindings := range o.HostConfig.PortBindings {
		for _, b := range bindings {
			add(true, "publish", b.HostPort+" -> "+port.String())
		}
	}
	for _, p := range o.Unpublish {
		add(true, "unpublish", p)
	}
	if !limits.None(&o.UpdateOptions.Resources) || len(o.UpdateOptions.Hugepages) > 0 {
		add(true, "change", "limits")
	}
	if o.RestartPolicy.Name != "" {
		add(true, "restart policy", string(o.RestartPolicy.Name))
	}
	for _, l := range slices.Sorted(maps.Keys(o.Labels)) {
		add(true, "label", l+"="+o.Labels[l])
	}
	for _, l := range o.RemoveLabels {
		add(true, "remove label", l)
	}
	for _, e := range o.Env {
		add(false, "env", e)
	}
	for _, w := range [][2]string{{"user", o.User}, {"workdir", o.WorkingDir}, {"hostname", o.Hostname}} {
		if w[1] != "" {
			add(false, w[0], w[1])
		}
	}
	return out
}
