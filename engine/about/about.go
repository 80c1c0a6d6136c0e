//go:build linux

// Package about says what an engine, its program and its host are: the commands info and version.
package about

import (
	"os"
	"runtime"

	docker "github.com/moby/moby/api/types/container"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/engine/confine"
	"github.com/berth-containers/berth/engine/doctor"
	"github.com/berth-containers/berth/internal/version"
	"github.com/berth-containers/berth/linux/cgroup"
	"github.com/berth-containers/berth/linux/seccomp"
)

// Version is what `version` says. The client and the server of Docker are one program here.
type Version struct {
	Version       string
	APIVersion    string `json:"ApiVersion"`
	GitCommit     string
	GoVersion     string
	Os            string
	Arch          string
	KernelVersion string
}

// APIVersion is the version of Docker's API whose words and shapes are used.
const APIVersion = "1.51"

// CurrentVersion describes this program.
func CurrentVersion() Version {
	commit, changed := version.Commit()
	if changed {
		commit += " (changed)"
	}
	return Version{Version: version.String(), APIVersion: APIVersion, GitCommit: commit, GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH, KernelVersion: doctor.KernelVersion()}
}

// Info is what `info` says, with the names of Docker's answer where it has one.
type Info struct {
	ID                string
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	LoggingDriver     string
	CgroupDriver      string
	CgroupVersion     string
	CgroupMode        string // of Berth: v1, hybrid, v2
	KernelVersion     string
	OperatingSystem   string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64
	DockerRootDir     string
	StateDir          string // of Berth
	Name              string
	ServerVersion     string
	DefaultRuntime    string
	SecurityOptions   []string
	Warnings          []string
}

// Engine describes an engine and its host.
func Engine(e *engine.Engine) (*Info, error) {
	all, err := e.List(engine.ListOptions{All: true})
	if err != nil {
		return nil, err
	}
	images, err := e.ImageStore().List()
	if err != nil {
		return nil, err
	}
	i := &Info{Containers: len(all), Images: len(images), Driver: "overlay2", LoggingDriver: "json-file", CgroupDriver: "cgroupfs",
		KernelVersion: doctor.KernelVersion(), OperatingSystem: doctor.OSName(), OSType: "linux", Architecture: doctor.Machine(), NCPU: runtime.NumCPU(), MemTotal: doctor.MemTotal(),
		DockerRootDir: e.Root(), StateDir: e.State(), ServerVersion: version.String(), DefaultRuntime: "berth-runtime", SecurityOptions: []string{}, Warnings: []string{}}
	for _, c := range all {
		switch c.State {
		case docker.StatePaused:
			i.ContainersPaused++
		case docker.StateRunning, docker.StateRestarting:
			i.ContainersRunning++
		default:
			i.ContainersStopped++
		}
	}
	if mode, err := cgroup.Detect(); err == nil {
		i.CgroupMode, i.CgroupVersion = mode.String(), "1"
		if mode == cgroup.V2 {
			i.CgroupVersion = "2"
		}
	}
	i.SecurityOptions = append(i.SecurityOptions, confine.Modules()...)
	if seccomp.Supported() {
		i.SecurityOptions = append(i.SecurityOptions, "name=seccomp,profile=builtin")
	}
	i.SecurityOptions = append(i.SecurityOptions, "name=cgroupns")
	i.Name, _ = os.Hostname()
	for _, f := range doctor.Examine(e.Root()) {
		if f.Level != doctor.Good {
			i.Warnings = append(i.Warnings, "WARNING: "+f.Text)
		}
	}
	return i, nil
}
