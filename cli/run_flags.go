//go:build linux

package cli

import (
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/mountpoint"
	"github.com/berth-containers/berth/engine/secret"
	"github.com/berth-containers/berth/internal/errs"
)

// bytesFlag is a number of bytes: 100m, 1g, 512k; -1 where that means without a limit.
type bytesFlag int64

func (b *bytesFlag) String() string { return units.BytesSize(float64(*b)) }
func (b *bytesFlag) Type() string   { return "bytes" }
func (b *bytesFlag) Set(s string) error {
	if s == "-1" {
		*b = -1
		return nil
	}
	n, err := units.RAMInBytes(s)
	*b = bytesFlag(n)
	return err
}

// cpusFlag is a number of CPUs, in billionths: 1.5.
type cpusFlag int64

func (c *cpusFlag) String() string { return big.NewRat(int64(*c), 1e9).FloatString(3) }
func (c *cpusFlag) Type() string   { return "decimal" }
func (c *cpusFlag) Set(s string) error {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return fmt.Errorf("failed to parse %v as a rational number", s)
	}
	n := r.Mul(r, big.NewRat(1e9, 1))
	if !n.IsInt() {
		return fmt.Errorf("value is too precise")
	}
	if n.Sign() <= 0 {
		return fmt.Errorf("must be positive")
	}
	*c = cpusFlag(n.Num().Int64())
	return nil
}

// folderFlag is a folder in a container.
type folderFlag string

func (d *folderFlag) String() string { return string(*d) }
func (d *folderFlag) Type() string   { return "string" }
func (d *folderFlag) Set(s string) error {
	if !filepath.IsAbs(s) {
		return fmt.Errorf("the working directory '%s' is invalid, it needs to be an absolute path", s)
	}
	*d = folderFlag(s)
	return nil
}

// listFlag is a flag that may be repeated; commas are part of a value.
type listFlag []string

func (l *listFlag) String() string     { return "" }
func (l *listFlag) Type() string       { return "list" }
func (l *listFlag) Set(s string) error { *l = append(*l, s); return nil }

// onlyValue is a flag of Docker's that has values by which nothing changes, and no others here.
type onlyValue struct {
	what   string
	values []string
}

func (o *onlyValue) String() string { return "" }
func (o *onlyValue) Type() string   { return "string" }
func (o *onlyValue) Set(s string) error {
	if s != "" && !slices.Contains(o.values, s) {
		return fmt.Errorf("unknown or invalid %s: there is %s", o.what, o.values[0])
	}
	return nil
}

// runFlags are the flags of run and create.
type runFlags struct {
	c    engine.Config
	h    *docker.HostConfig // of c
	name string

	detach, interactive, tty, sigProxy, init, publishAll, noHealth, quiet, timing, oomKillDisable bool
	explainAs, detachKeys, pull, cidFile, entrypoint, restart                                     string
	attach, env, envFile, label, labelFile, publish, expose, volume, mounts, tmpfs, secrets, configs, storageOpt, addHost, dns, device,
	deviceRule, gpus, ulimit, sysctl, logOpt, annotation, network, alias, hugepages, cgroupConf listFlag
	deviceReadBps, deviceWriteBps, deviceReadIOps, deviceWriteIOps, blkioWeightDevice listFlag
	memory, memorySwap, memoryReservation, shmSize                                    bytesFlag
	cpus                                                                              cpusFlag
	ip, ip6, mac, logDriver, healthCmd, pidMode, ipcMode, utsMode                     string
	cgroupns, userns, umask                                                           string
	pidsLimit, swappiness                                                             int64
	stopTimeout, healthRetries                                                        int
	healthInterval, healthTimeout, healthStartPeriod, healthStartInterval             time.Duration

	flags *pflag.FlagSet
}

// register makes the flags, in groups that follow Docker's documentation.
func (f *runFlags) register(fs *pflag.FlagSet, create bool) {
	f.flags, f.h = fs, &f.c.HostConfig
	fs.SetInterspersed(false)
	if !create {
		fs.BoolVarP(&f.detach, "detach", "d", false, "Run container in background and print container ID")
		fs.BoolVar(&f.sigProxy, "sig-proxy", true, "Proxy received signals to the process")
		fs.StringVar(&f.detachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
		fs.StringVar(&f.explainAs, "explain", "", "Print each kernel step while it happens: text or json")
		fs.Lookup("explain").NoOptDefVal = "text"
		fs.BoolVar(&f.timing, "timing", false, "Print how long each step of the start took")
	}
	fs.StringVar(&f.name, "name", "", "Assign a name to the container")
	fs.BoolVarP(&f.interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	fs.BoolVarP(&f.tty, "tty", "t", false, "Allocate a pseudo-TTY")
	fs.VarP(&f.attach, "attach", "a", "Attach to STDIN, STDOUT or STDERR")
	fs.BoolVar(&f.h.AutoRemove, "rm", false, "Automatically remove the container when it exits")
	fs.StringVar(&f.restart, "restart", "no", "Restart policy to apply when a container exits: no, always, unless-stopped, on-failure[:N]")
	fs.StringVar(&f.pull, "pull", "missing", `Pull image before running ("always", "missing", "never")`)
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "Suppress the pull output")
	fs.StringVar(&f.c.Platform, "platform", "", "Set platform if server is multi-platform capable")
	fs.StringVar(&f.cidFile, "cidfile", "", "Write the container ID to the file")
	fs.BoolVar(&f.init, "init", false, "Run an init inside the container that forwards signals and reaps processes")
	fs.StringVar(&f.c.StopSignal, "stop-signal", "", "Signal to stop the container")
	fs.IntVar(&f.stopTimeout, "stop-timeout", 0, "Timeout (in seconds) to stop a container")
	fs.DurationVar(&f.c.Timeout, "timeout", 0, "Stop the container after this time")
	fs.Var(&f.annotation, "annotation", "Add an annotation to the container (passed through to the OCI runtime)")
	fs.Var(&onlyValue{"runtime", []string{"berth-runtime", "runc", "io.containerd.runc.v2"}}, "runtime", "Runtime to use for this container: berth-runtime, which runc and io.containerd.runc.v2 mean, too")
	fs.Var(&onlyValue{"isolation technology", []string{"default"}}, "isolation", "Container isolation technology: default")
	fs.String("kernel-memory", "", "Kernel memory limit (deprecated)")
	_ = fs.MarkDeprecated("kernel-memory", "and no longer supported by the kernel")
	fs.Bool("disable-content-trust", true, "Skip image verification (deprecated)")
	_ = fs.MarkHidden("disable-content-trust")
	f.registerProcess(fs)
	f.registerNamespaces(fs)
	f.registerResources(fs)
	f.registerNetwork(fs)
	f.registerStorage(fs)
	f.registerHealth(fs)
}

func (f *runFlags) registerProcess(fs *pflag.FlagSet) {
	fs.StringVar(&f.entrypoint, "entrypoint", "", "Overwrite the default ENTRYPOINT of the image")
	fs.VarP(&f.env, "env", "e", "Set environment variables")
	fs.Var(&f.envFile, "env-file", "Read in a file of environment variables")
	fs.VarP((*folderFlag)(&f.c.WorkingDir), "workdir", "w", "Working directory inside the container")
	fs.StringVarP(&f.c.User, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	fs.Var((*listFlag)(&f.h.GroupAdd), "group-add", "Add additional groups to join")
	fs.StringVarP(&f.c.Hostname, "hostname", "h", "", "Container host name")
	fs.StringVar(&f.c.Domainname, "domainname", "", "Container NIS domain name")
	fs.VarP(&f.label, "label", "l", "Set meta data on a container")
	fs.Var(&f.labelFile, "label-file", "Read in a line delimited file of labels")
	fs.StringVar(&f.logDriver, "log-driver", "", "Logging driver for the container: json-file, local, journald, syslog, none")
	fs.Var(&f.logOpt, "log-opt", "Log driver options (max-size=20m, max-file=3, compress=true, labels, env, tag; docs/logs.md)")
	fs.Var((*listFlag)(&f.h.CapAdd), "cap-add", "Add Linux capabilities")
	fs.Var((*listFlag)(&f.h.CapDrop), "cap-drop", "Drop Linux capabilities")
	fs.BoolVar(&f.h.Privileged, "privileged", false, "Give extended privileges to this container")
	fs.Var((*listFlag)(&f.h.SecurityOpt), "security-opt", "Security Options")
	fs.Var(&f.sysctl, "sysctl", "Sysctl options")
	fs.IntVar(&f.h.OomScoreAdj, "oom-score-adj", 0, "Tune host's OOM preferences (-1000 to 1000)")
	fs.StringVar(&f.umask, "umask", "", "Initial umask of the container's process, octal")
}

func (f *runFlags) registerNamespaces(fs *pflag.FlagSet) {
	fs.StringVar(&f.pidMode, "pid", "", "PID namespace to use: private, host, container:ID")
	fs.StringVar(&f.ipcMode, "ipc", "", "IPC mode to use: private, shareable, host, none, container:ID")
	fs.StringVar(&f.utsMode, "uts", "", "UTS namespace to use: private, host, container:ID")
	fs.StringVar(&f.cgroupns, "cgroupns", "", "Cgroup namespace to use: private, host, container:ID")
	fs.StringVar(&f.userns, "userns", "", "User namespace to use: host, private, auto, UID:GID:SIZE, container:NAME, ns:/path")
	fs.StringVar(&f.c.Timens, "timens", "", "Time namespace to use: private, host, container:ID")
	fs.StringVar(&f.h.CgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
}

func (f *runFlags) registerResources(fs *pflag.FlagSet) {
	f.registerLimits(fs)
	fs.BoolVar(&f.oomKillDisable, "oom-kill-disable", false, "Disable OOM Killer")
	fs.Var(&f.device, "device", "Add a host device to the container: PATH[:PATH[:rwm]], or VENDOR/CLASS=NAME of CDI")
	fs.Var(&f.gpus, "gpus", "GPU devices to add to the container ('all' to pass all GPUs), by CDI")
	fs.Var(&f.cgroupConf, "cgroup-conf", "Set a file of cgroup v2: FILE=VALUE")
}

func (f *runFlags) registerNetwork(fs *pflag.FlagSet) {
	fs.VarP(&f.publish, "publish", "p", "Publish a container's port(s) to the host: [[IP:|lan:]HOST_PORT:]PORT[/PROTOCOL]")
	fs.Var((*listFlag)(&f.c.Egress), "egress", "Allow the container to reach these alone: none, lan, ADDRESS, CIDR, ADDRESS:PORT, NAME[:PORT], *.DOMAIN[:PORT]; learn: everything, written down")
	fs.BoolVarP(&f.publishAll, "publish-all", "P", false, "Publish all exposed ports to random ports")
	fs.Var(&f.expose, "expose", "Expose a port or a range of ports")
	fs.Var(&f.network, "network", "Connect a container to a network: none, host, bridge, container:ID, ns:PATH, a network's name")
	fs.Var(&f.network, "net", "Connect a container to a network")
	_ = fs.MarkHidden("net")
	fs.Var(&f.alias, "network-alias", "Add network-scoped alias for the container")
	fs.Var(&f.alias, "net-alias", "Add network-scoped alias for the container")
	_ = fs.MarkHidden("net-alias")
	fs.StringVar(&f.ip, "ip", "", "IPv4 address (e.g., 172.30.100.104)")
	fs.StringVar(&f.ip6, "ip6", "", "IPv6 address (e.g., 2001:db8::33)")
	fs.StringVar(&f.mac, "mac-address", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)")
	fs.Var((*listFlag)(&f.h.Links), "link", "Add link to another container")
	fs.Var(&f.addHost, "add-host", "Add a custom host-to-IP mapping (host:ip)")
	fs.Var(&f.dns, "dns", "Set custom DNS servers")
	fs.Var((*listFlag)(&f.h.DNSSearch), "dns-search", "Set custom DNS search domains")
	fs.Var((*listFlag)(&f.h.DNSOptions), "dns-option", "Set DNS options")
}

func (f *runFlags) registerStorage(fs *pflag.FlagSet) {
	fs.VarP(&f.volume, "volume", "v", "Bind mount a volume")
	fs.StringVar(&f.h.VolumeDriver, "volume-driver", "", "Volume driver for the container: local")
	fs.Var(&f.mounts, "mount", "Attach a filesystem mount to the container")
	fs.Var(&f.tmpfs, "tmpfs", "Mount a tmpfs directory")
	fs.Var((*listFlag)(&f.h.VolumesFrom), "volumes-from", "Mount volumes from the specified container(s)")
	fs.BoolVar(&f.h.ReadonlyRootfs, "read-only", false, "Mount the container's root filesystem as read only")
	fs.Var(&f.shmSize, "shm-size", "Size of /dev/shm")
	fs.Var(&f.storageOpt, "storage-opt", "Storage driver options for the container: size=SIZE bounds what it can write")
	fs.Var(&f.secrets, "secret", "Show a secret as a file: id=NAME,src=FILE|env=VAR|cmd=COMMAND|src=-[,target=PATH][,uid=N][,gid=N][,mode=0444]")
	fs.Var(&f.configs, "config", "Show a configuration as a file, in / unless it says target=; as --secret")
}

func (f *runFlags) registerHealth(fs *pflag.FlagSet) {
	fs.StringVar(&f.healthCmd, "health-cmd", "", "Command to run to check health")
	fs.DurationVar(&f.healthInterval, "health-interval", 0, "Time between running the check (ms|s|m|h) (default 0s)")
	fs.DurationVar(&f.healthTimeout, "health-timeout", 0, "Maximum time to allow one check to run (ms|s|m|h) (default 0s)")
	fs.DurationVar(&f.healthStartPeriod, "health-start-period", 0, "Start period for the container to initialize before starting health-retries countdown")
	fs.DurationVar(&f.healthStartInterval, "health-start-interval", 0, "Time between running the check during the start period")
	fs.IntVar(&f.healthRetries, "health-retries", 0, "Consecutive failures needed to report unhealthy")
	fs.BoolVar(&f.noHealth, "no-healthcheck", false, "Disable any container-specified HEALTHCHECK")
	fs.StringVar(&f.c.HealthOnFailure, "health-on-failure", "", "What to do with an unhealthy container: none, restart, stop, kill")
}

// config makes of the flags and arguments what the engine is asked for.
func (f *runFlags) config(args []string) (*engine.Config, error) {
	c := &f.c
	c.Name, c.Argv = f.name, os.Args
	// A first argument that begins with / is a command: it runs in the image that the program carries.
	if strings.HasPrefix(args[0], "/") {
		c.Image, c.Cmd = engine.DefaultImage, args
	} else {
		c.Image, c.Cmd = args[0], args[1:]
	}
	if f.flags.Changed("entrypoint") {
		c.Entrypoint = []string{f.entrypoint}
	}
	c.Tty, c.OpenStdin = f.tty, f.interactive
	steps := []func() error{f.useStreams, f.useEnvironment, f.useLimits, f.useDevices, f.useNamespaces, f.useNetwork, f.useStorage, f.useRest, f.useHealth}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func invalid(format string, args ...any) error {
	return errs.Text(errs.Invalid, fmt.Sprintf(format, args...))
}

func (f *runFlags) useStreams() error {
	c := &f.c
	if len(f.attach) > 0 && f.detach {
		return invalid("conflicting options: cannot specify both --attach and --detach")
	}
	for _, a := range f.attach {
		switch strings.ToLower(a) {
		case "stdin":
			c.AttachStdin = true
		case "stdout":
			c.AttachStdout = true
		case "stderr":
			c.AttachStderr = true
		default:
			return invalid("valid streams are STDIN, STDOUT and STDERR")
		}
	}
	if len(f.attach) == 0 && !f.detach {
		c.AttachStdout, c.AttachStderr, c.AttachStdin = true, true, f.interactive
	}
	c.StdinOnce = c.OpenStdin && c.AttachStdin
	return nil
}

// useEnvironment reads variables and labels. A name without a value takes the caller's; one that the caller does not
// have is left out.
func (f *runFlags) useEnvironment() error {
	for _, file := range f.envFile {
		lines, err := readLines(file)
		if err != nil {
			return err
		}
		f.c.Env = append(f.c.Env, lines...)
	}
	f.c.Env = append(f.c.Env, f.env...)
	for i, e := range f.c.Env {
		name, _, hasValue := strings.Cut(e, "=")
		if name == "" {
			return invalid("invalid environment variable: %s", e)
		}
		if !hasValue {
			if v, ok := os.LookupEnv(name); ok {
				f.c.Env[i] = name + "=" + v
			}
		}
	}
	labels := []string{}
	for _, file := range f.labelFile {
		lines, err := readLines(file)
		if err != nil {
			return err
		}
		labels = append(labels, lines...)
	}
	f.c.Labels = pairs(append(labels, f.label...))
	f.h.Annotations = pairs(f.annotation)
	return nil
}

// readLines reads a file of NAME=VALUE lines: nothing is unquoted, # begins a comment.
func readLines(file string) ([]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, errs.New(errs.Invalid, "", err)
	}
	var out []string
	for _, l := range strings.Split(strings.TrimPrefix(string(b), "\ufeff"), "\n") {
		l = strings.TrimLeft(strings.TrimSuffix(l, "\r"), " \t")
		if l == "" || l[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(l, "=")
		if name == "" || strings.ContainsAny(name, " \t") {
			return nil, invalid("invalid environment variable in %s: %s", file, l)
		}
		out = append(out, l)
	}
	return out, nil
}

func pairs(list []string) map[string]string {
	out := map[string]string{}
	for _, p := range list {
		k, v, _ := strings.Cut(p, "=")
		out[k] = v
	}
	return out
}

func (f *runFlags) useRestart() error {
	name, count, counted := strings.Cut(f.restart, ":")
	f.h.RestartPolicy.Name = docker.RestartPolicyMode(name)
	if counted {
		n, err := strconv.Atoi(count)
		if err != nil {
			return invalid("invalid restart policy format: maximum retry count must be an integer")
		}
		f.h.RestartPolicy.MaximumRetryCount = n
	}
	return nil
}

func (f *runFlags) useRest() error {
	if err := f.useRestart(); err != nil {
		return err
	}
	if f.flags.Changed("restart") && f.h.AutoRemove && !f.h.RestartPolicy.IsNone() {
		return invalid("conflicting options: cannot specify both --restart and --rm")
	}
	if f.flags.Changed("stop-timeout") {
		f.c.StopTimeout = &f.stopTimeout
	}
	f.h.LogConfig = docker.LogConfig{Type: f.logDriver, Config: pairs(f.logOpt)}
	if f.init {
		f.h.Init = &f.init
	}
	if f.umask != "" {
		n, err := strconv.ParseUint(f.umask, 8, 12)
		if err != nil {
			return invalid("invalid umask: %s", f.umask)
		}
		mask := uint32(n)
		f.h.Umask = &mask
	}
	f.h.Sysctls = pairs(f.sysctl)
	switch f.pull {
	case "always", "missing", "never":
	default:
		return invalid("invalid pull option: '%s': must be one of 'always', 'missing' or 'never'", f.pull)
	}
	return nil
}

func (f *runFlags) useNamespaces() error {
	f.h.PidMode, f.h.IpcMode, f.h.UTSMode = docker.PidMode(f.pidMode), docker.IpcMode(f.ipcMode), docker.UTSMode(f.utsMode)
	f.h.CgroupnsMode, f.h.UsernsMode = docker.CgroupnsMode(f.cgroupns), docker.UsernsMode(f.userns)
	for _, m := range []struct{ flag, value, more string }{
		{"pid", f.pidMode, ""}, {"ipc", f.ipcMode, "shareable none"}, {"uts", f.utsMode, ""}, {"cgroupns", f.cgroupns, ""}, {"timens", f.c.Timens, ""},
	} {
		name, joined := strings.CutPrefix(m.value, "container:")
		ok := m.value == "" || m.value == "host" || m.value == "private" || joined && name != ""
		for _, word := range strings.Fields(m.more) {
			ok = ok || m.value == word
		}
		if !ok {
			return invalid("--%s: invalid mode: %s", m.flag, m.value)
		}
	}
	return nil
}

func (f *runFlags) useStorage() error {
	f.h.ShmSize = int64(f.shmSize)
	if len(f.storageOpt) > 0 {
		f.h.StorageOpt = pairs(f.storageOpt)
	}
	for _, v := range f.volume {
		if !strings.Contains(v, ":") {
			if _, err := mountpoint.ParseBind(v); err != nil {
				return err
			}
			if f.c.Volumes == nil {
				f.c.Volumes = map[string]struct{}{}
			}
			f.c.Volumes[v] = struct{}{}
			continue
		}
		// A relative source is a folder here, as with docker.
		source, rest, _ := strings.Cut(v, ":")
		if source == "." || source == ".." || strings.HasPrefix(source, "./") || strings.HasPrefix(source, "../") || strings.HasPrefix(source, "~") {
			wd, err := os.Getwd()
			if err != nil {
				return errs.Wrap("find working directory", err)
			}
			v = joinPath(wd, source) + ":" + rest
		}
		f.h.Binds = append(f.h.Binds, ownedByCaller(v))
	}
	from := secret.Sources{Getenv: os.LookupEnv}
	if !f.interactive {
		from.Stdin = os.Stdin
	}
	for _, kind := range []struct {
		folder string
		specs  listFlag
	}{{"/run/secrets", f.secrets}, {"/", f.configs}} {
		for _, spec := range kind.specs {
			s, err := secret.Parse(spec, kind.folder, from)
			if err != nil {
				return err
			}
			f.c.Secrets = append(f.c.Secrets, *s)
		}
	}
	for _, t := range f.tmpfs {
		path, options, _ := strings.Cut(t, ":")
		if f.h.Tmpfs == nil {
			f.h.Tmpfs = map[string]string{}
		}
		f.h.Tmpfs[path] = options
	}
	for _, m := range f.mounts {
		parsed, owner, err := mountpoint.ParseFlag(m, mountpoint.IDMap(caller()))
		if err != nil {
			return err
		}
		if owner != (mountpoint.Owner{}) {
			if f.c.MountOwners == nil {
				f.c.MountOwners = map[string]mountpoint.Owner{}
			}
			f.c.MountOwners[parsed.Target] = owner
		}
		f.h.Mounts = append(f.h.Mounts, parsed)
	}
	return nil
}

// ownedByCaller puts who is meant in the place of "me" in a -v.
func ownedByCaller(v string) string {
	at := strings.LastIndex(v, ":")
	words := strings.Split(v[at+1:], ",")
	for i, w := range words {
		if w == "idmap=me" {
			words[i] = "idmap=" + caller()
		}
	}
	return v[:at+1] + strings.Join(words, ",")
}

func (f *runFlags) useHealth() error {
	set := f.healthCmd != "" || f.healthInterval != 0 || f.healthTimeout != 0 || f.healthStartPeriod != 0 || f.healthStartInterval != 0 || f.healthRetries != 0
	if f.noHealth {
		if set {
			return invalid("--no-healthcheck conflicts with --health-* options")
		}
		f.c.Healthcheck = &docker.HealthConfig{Test: []string{"NONE"}}
		return nil
	}
	for _, d := range []time.Duration{f.healthInterval, f.healthTimeout, f.healthStartPeriod, f.healthStartInterval} {
		if d < 0 {
			return invalid("a duration of a health check cannot be negative")
		}
	}
	if f.healthRetries < 0 {
		return invalid("--health-retries cannot be negative")
	}
	if set {
		h := &docker.HealthConfig{Interval: f.healthInterval, Timeout: f.healthTimeout, StartPeriod: f.healthStartPeriod, StartInterval: f.healthStartInterval, Retries: f.healthRetries}
		if f.healthCmd != "" {
			h.Test = []string{"CMD-SHELL", f.healthCmd}
		}
		f.c.Healthcheck = h
	}
	switch f.c.HealthOnFailure {
	case "", "none", "restart", "stop", "kill":
		return nil
	}
	return invalid("--health-on-failure: %s is not none, restart, stop or kill", f.c.HealthOnFailure)
}
