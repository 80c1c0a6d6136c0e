//go:build linux

package logs

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strconv"
	"time"

	"github.com/berth-containers/berth/internal/errs"
)

// ReadJournal hands over a container's entries in the journal of systemd, which journalctl(1) reads.
func ReadJournal(id string, o Options, running func() bool, take func(*Entry) error) error {
	args := []string{"--output=json", "--all", "--quiet", "--no-pager", "--output-fields=MESSAGE,PRIORITY,SYSLOG_TIMESTAMP,CONTAINER_PARTIAL_MESSAGE"}
	if o.Follow {
		args = append(args, "--follow")
	}
	if o.Tail >= 0 {
		args = append(args, "--lines="+strconv.Itoa(o.Tail))
	} else {
		args = append(args, "--lines=all")
	}
	if !o.Since.IsZero() {
		args = append(args, "--since=@"+strconv.FormatInt(o.Since.Unix(), 10))
	}
	cmd := exec.Command("journalctl", append(args, "CONTAINER_ID_FULL="+id)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return errs.New(errs.Unsupported, "read journal", err).WithHint("journalctl reads the journal: install systemd's tools")
	}
	over := make(chan struct{})
	defer func() {
		close(over)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if o.Follow { // it would never end
		go func() {
			for running() {
				select {
				case <-over:
					return
				case <-time.After(500 * time.Millisecond):
				}
			}
			time.Sleep(500 * time.Millisecond) // the journal may take a moment
			_ = cmd.Process.Kill()
		}()
	}
	err = copyJournal(out, &reader{Options: o}, take)
	if errors.Is(err, ErrEnough) {
		return nil
	}
	return err
}

func copyJournal(in io.Reader, r *reader, take func(*Entry) error) error {
	lines := bufio.NewReaderSize(in, 64<<10)
	for {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			return nil // the end, whatever the reason
		}
		e, ok := parseJournal(text)
		if !ok || !r.wanted(e) {
			continue
		}
		if err := take(e); err != nil {
			return err
		}
	}
}

// parseJournal reads an entry; a message that is not text is an array of bytes (journalctl(1), "json").
func parseJournal(text []byte) (*Entry, bool) {
	var l struct {
		Message   json.RawMessage `json:"MESSAGE"`
		Priority  string          `json:"PRIORITY"`
		Timestamp time.Time       `json:"SYSLOG_TIMESTAMP"`
		Partial   string          `json:"CONTAINER_PARTIAL_MESSAGE"`
	}
	if json.Unmarshal(text, &l) != nil {
		return nil, false
	}
	e := &Entry{Stderr: l.Priority == "3", Time: l.Timestamp}
	var s string
	if json.Unmarshal(l.Message, &s) == nil {
		e.Log = []byte(s)
	} else {
		var numbers []int
		if json.Unmarshal(l.Message, &numbers) != nil {
			return nil, false
		}
		for _, n := range numbers {
			e.Log = append(e.Log, byte(n))
		}
	}
	if l.Partial == "" {
		e.Log = append(e.Log, '\n')
	}
	return e, true
}
