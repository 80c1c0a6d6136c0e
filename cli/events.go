//go:build linux

package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berth-containers/berth/engine"
)

func newEvents(a *app) *cobra.Command {
	var filters listFlag
	since, until, format := "", "", ""
	cmd := &cobra.Command{
		Use: "events [OPTIONS]", Short: "Get events: what happens, and with --since what has happened, also before a reboot", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := engine.EventOptions{}
			var err error
			if o.Filters, err = parseFilters(filters); err != nil {
				return err
			}
			if o.Since, o.Until, err = parsePeriod(since, until); err != nil {
				return err
			}
			show, err := a.eventWriter(format)
			if err != nil {
				return err
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd)
			defer stop()
			return e.Events(ctx, o, show)
		},
	}
	f := cmd.Flags()
	f.VarP(&filters, "filter", "f", "Filter output based on conditions provided")
	f.StringVar(&since, "since", "", "Show all events created since timestamp")
	f.StringVar(&until, "until", "", "Stream events until this timestamp")
	f.StringVar(&format, "format", "", "Format output using a custom template: 'json', or a Go template")
	return cmd
}

// eventRow is an event with the names that its parts had at first, which scripts still use.
type eventRow struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	engine.Event
}

func newEventRow(e engine.Event) eventRow {
	r := eventRow{Event: e}
	if e.Type == "container" || e.Type == "image" {
		r.Status, r.ID, r.From = e.Action, e.Actor.ID, e.Actor.Attributes["image"]
	}
	return r
}

// eventWriter prints an event in Docker's ways: a line for people, JSON, or a template.
func (a *app) eventWriter(format string) (func(engine.Event) error, error) {
	switch format {
	case "":
		return func(e engine.Event) error {
			_, err := fmt.Fprintln(a.out, eventLine(&e))
			return err
		}, nil
	case "json":
		format = "{{json .}}"
	}
	tmpl, err := parseLine(format)
	return func(e engine.Event) error { return execute(a.out, tmpl, []any{newEventRow(e)}) }, err
}

// eventLine is `time type action id (attributes)`.
func eventLine(e *engine.Event) string {
	line := time.Unix(0, e.TimeNano).Format("2006-01-02T15:04:05.000000000Z07:00") + " " + e.Type + " " + e.Action + " " + e.Actor.ID
	var attributes []string
	for _, key := range slices.Sorted(maps.Keys(e.Actor.Attributes)) {
		attributes = append(attributes, key+"="+e.Actor.Attributes[key])
	}
	if len(attributes) > 0 {
		line += " (" + strings.Join(attributes, ", ") + ")"
	}
	return line
}
