//go:build linux

package cli

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newLogs(a *app) *cobra.Command {
	v := &logView{a: a}
	o := &v.options
	o.Stdout, o.Stderr = true, true
	tail, since, until, grep := "", "", "", ""
	cmd := &cobra.Command{
		Use: "logs [OPTIONS] CONTAINER [CONTAINER...]", Short: "Fetch the logs of containers; those of several are merged by their times", Args: minArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			o.Tail = -1
			if tail != "all" && tail != "" {
				if o.Tail, err = strconv.Atoi(tail); err != nil {
					return invalid("invalid value for --tail: %q: want a number or all", tail)
				}
				o.Tail = max(o.Tail, -1)
			}
			if o.Since, o.Until, err = parsePeriod(since, until); err != nil {
				return err
			}
			if grep != "" {
				if v.grep, err = regexp.Compile(grep); err != nil {
					return invalid("invalid value for --grep: %v", err)
				}
			}
			return v.show(args)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "Follow log output")
	f.BoolVarP(&v.timestamps, "timestamps", "t", false, "Show timestamps")
	f.BoolVar(&v.details, "details", false, "Show extra details provided to logs")
	f.StringVarP(&tail, "tail", "n", "all", "Number of lines to show from the end of the logs")
	f.StringVar(&since, "since", "", `Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	f.StringVar(&until, "until", "", `Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	f.StringVar(&grep, "grep", "", "Show only lines that match a regular expression (RE2; (?i) ignores case)")
	return cmd
}

// parsePeriod reads --since and --until.
func parsePeriod(since, until string) (from, to time.Time, err error) {
	if from, err = parseTime(since); err == nil {
		to, err = parseTime(until)
	}
	return from, to, err
}

// parseTime reads a time as Docker does: RFC 3339, with parts left out, seconds since 1970, or how long ago it is.
func parseTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02Z07:00", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	seconds, fraction, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, invalid("failed to parse %q as a time", s)
	}
	nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	return time.Unix(n, nanos), nil
}
