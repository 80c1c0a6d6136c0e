//go:build linux

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine/about"
)

// printOne prints one thing by a template or as JSON; without a format plain does it.
func printOne(w io.Writer, format string, v any, plain func()) error {
	switch format {
	case "":
		plain()
		return nil
	case "json":
		b, err := json.Marshal(v)
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\n", b)
		}
		return err
	}
	return inspected(w, format, []any{v})
}

// versions has the shape that scripts ask Docker for: .Client.Version, .Server.Version. Here both are one program.
type versions struct {
	Client, Server about.Version
}

func newVersion(a *app) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "version [OPTIONS]", Short: "Show the Berth version information", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			v := about.CurrentVersion()
			return printOne(a.out, format, versions{v, v}, func() {
				fmt.Fprintf(a.out, "Berth:\n Version:       %s\n API version:   %s (words and shapes of Docker's)\n Go version:    %s\n Git commit:    %s\n OS/Arch:       %s/%s\n Kernel:        %s\n",
					v.Version, v.APIVersion, v.GoVersion, v.GitCommit, v.Os, v.Arch, v.KernelVersion)
			})
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format output using a custom template: 'json', 'TEMPLATE'")
	return cmd
}

func newInfo(a *app) *cobra.Command {
	format := ""
	cmd := &cobra.Command{
		Use: "info [OPTIONS]", Short: "Display system-wide information", Args: noArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			i, err := about.Engine(e)
			if err != nil {
				return err
			}
			return printOne(a.out, format, i, func() { writeInfo(a.out, a.err, i) })
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "Format output using a custom template: 'json', 'TEMPLATE'")
	return cmd
}

func writeInfo(w, warnings io.Writer, i *about.Info) {
	fmt.Fprintf(w, "Containers: %d\n Running: %d\n Paused: %d\n Stopped: %d\nImages: %d\nServer Version: %s\nStorage Driver: %s\nLogging Driver: %s\n",
		i.Containers, i.ContainersRunning, i.ContainersPaused, i.ContainersStopped, i.Images, i.ServerVersion, i.Driver, i.LoggingDriver)
	fmt.Fprintf(w, "Cgroup Driver: %s\nCgroup Version: %s (%s)\nDefault Runtime: %s\nSecurity Options:\n", i.CgroupDriver, i.CgroupVersion, i.CgroupMode, i.DefaultRuntime)
	for _, o := range i.SecurityOptions {
		fmt.Fprintf(w, "  %s\n", o)
	}
	fmt.Fprintf(w, "Kernel Version: %s\nOperating System: %s\nOSType: %s\nArchitecture: %s\nCPUs: %d\nTotal Memory: %s\nName: %s\nRoot Dir: %s\nState Dir: %s\n",
		i.KernelVersion, i.OperatingSystem, i.OSType, i.Architecture, i.NCPU, units.BytesSize(float64(i.MemTotal)), i.Name, i.DockerRootDir, i.StateDir)
	for _, text := range i.Warnings {
		fmt.Fprintln(warnings, text)
	}
}

func newCompletion(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "Output shell completion code for the specified shell", Args: exactArgs(1),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(os.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(os.Stdout)
			case "fish":
				return root.GenFishCompletion(os.Stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(os.Stdout)
			}
			return invalid("no completion for %q: bash, zsh, fish and powershell have one", args[0])
		},
	}
}
