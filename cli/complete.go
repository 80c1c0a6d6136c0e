//go:build linux

package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
)

// completeNames gives a command that takes names of objects their completion. Which objects is what its usage says.
func (a *app) completeNames(cmd *cobra.Command) {
	if cmd.ValidArgsFunction != nil || len(cmd.ValidArgs) > 0 {
		return
	}
	_, arguments, _ := strings.Cut(cmd.Use, " ")
	arguments = strings.TrimLeft(strings.TrimPrefix(arguments, "[OPTIONS]"), " [")
	var names func(e *engine.Engine) []string
	switch {
	case strings.HasPrefix(arguments, "CONTAINER"), strings.HasPrefix(arguments, "NAME|ID"):
		names = containerNames
	case strings.HasPrefix(arguments, "IMAGE"), strings.HasPrefix(arguments, "SOURCE_IMAGE"), strings.HasPrefix(arguments, "NAME["):
		names = imageNames
	case strings.HasPrefix(arguments, "NETWORK"):
		names = networkNames
	case strings.HasPrefix(arguments, "VOLUME"):
		names = volumeNames
	default:
		return
	}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		many := strings.Contains(cmd.Use, "...]") && !strings.Contains(cmd.Use, "[ARG...]") || len(args) == 1 && strings.HasSuffix(cmd.Use, "IMAGE IMAGE")
		e, err := a.open()
		if err != nil || len(args) > 0 && !many {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return names(e), cobra.ShellCompDirectiveNoFileComp
	}
}

func containerNames(e *engine.Engine) (out []string) {
	list, err := e.List(engine.ListOptions{All: true})
	if err != nil {
		return nil
	}
	for _, c := range list {
		out = append(out, strings.TrimPrefix(c.Names[0], "/")+"\t"+c.Status)
	}
	return out
}

func imageNames(e *engine.Engine) (out []string) {
	list, err := e.Images(engine.ImageListOptions{})
	if err != nil {
		return nil
	}
	for _, i := range list {
		if i.Tag != "<none>" {
			out = append(out, i.Repository+":"+i.Tag)
		}
	}
	return out
}

func networkNames(e *engine.Engine) (out []string) {
	list, err := e.Networks(nil)
	if err != nil {
		return nil
	}
	for _, n := range list {
		out = append(out, n.Name)
	}
	return out
}

func volumeNames(e *engine.Engine) (out []string) {
	list, err := e.Volumes(nil)
	if err != nil {
		return nil
	}
	for _, v := range list {
		out = append(out, v.Name)
	}
	return out
}
