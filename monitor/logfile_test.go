//go:build linux

package monitor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lines reads a log as its readers do.
func lines(t *testing.T, file string) (out []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.SplitAfter(string(b), "\n") {
		if text == "" {
			continue
		}
		var l map[string]any
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		out = append(out, l)
	}
	return out
}

func TestLogLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	l, err := openLog(Log{File: file, Attrs: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	l.write(frameStdout, []byte("one\ntw"))
	l.write(frameStderr, []byte("between\n"))
	l.write(frameStdout, []byte("o\n\n\"quoted\" <tag> \x00 ü \xff\n"))
	l.write(frameStdout, []byte("no end"))
	l.finish()
	got := lines(t, file)
	want := []string{"one\n", "between\n", "two\n", "\n", "\"quoted\" <tag> \x00 ü \ufffd\n", "no end"}
	if len(got) != len(want) {
		t.Fatalf("%d lines: %v", len(got), got)
	}
	for i, w := range want {
		if got[i]["log"] != w {
			t.Errorf("line %d: %q, want %q", i, got[i]["log"], w)
		}
	}
	if got[1]["stream"] != "stderr" || got[0]["stream"] != "stdout" || got[0]["attrs"].(map[string]any)["a"] != "b" {
		t.Errorf("%v", got[:2])
	}
}

func TestLongLinesAreSplit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	l, err := openLog(Log{File: file})
	if err != nil {
		t.Fatal(err)
	}
	part := strings.Repeat("x", longestLine-1)
	for range 3 {
		l.write(frameStdout, []byte(part))
	}
	l.write(frameStdout, []byte("end\n"))
	var all string
	got := lines(t, file)
	for _, line := range got {
		all += line["log"].(string)
	}
	if all != part+part+part+"end\n" || len(got) < 2 {
		t.Errorf("%d lines of %d bytes", len(got), len(all))
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "log")
	l, err := openLog(Log{File: file, MaxSize: 300, MaxFiles: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		l.write(frameStdout, []byte(strings.Repeat(string(rune('a'+i%26)), 10)+"\n"))
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, name := range []string{"log", "log.1", "log.2"} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Size() > 300 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
		lines(t, filepath.Join(dir, name))
	}
	last := lines(t, file)
	if got := last[len(last)-1]["log"]; got != strings.Repeat(string(rune('a'+39%26)), 10)+"\n" {
		t.Errorf("last line %q", got)
	}
}

func TestRestartPolicy(t *testing.T) {
	for _, c := range []struct {
		r     Restart
		code  int
		times int
		want  bool
	}{
		{Restart{}, 1, 0, false}, {Restart{Policy: "no"}, 1, 0, false}, {Restart{Policy: "always"}, 0, 99, true}, {Restart{Policy: "unless-stopped"}, 0, 1, true},
		{Restart{Policy: "on-failure"}, 0, 0, false}, {Restart{Policy: "on-failure"}, 1, 99, true}, {Restart{Policy: "on-failure", Retries: 2}, 1, 1, true},
		{Restart{Policy: "on-failure", Retries: 2}, 1, 2, false},
	} {
		if got := c.r.again(&Exit{Code: c.code}, c.times); got != c.want {
			t.Errorf("%+v after %d, %d times: %v", c.r, c.code, c.times, got)
		}
	}
}

func TestFrames(t *testing.T) {
	a, b := connected(t)
	if err := a.sendJSON(frameRequest, Request{Op: "stop", Signal: 15}); err != nil {
		t.Fatal(err)
	}
	kind, payload, err := b.receive(nil)
	var r Request
	if err != nil || kind != frameRequest || json.Unmarshal(payload, &r) != nil || r.Op != "stop" || r.Signal != 15 {
		t.Errorf("%q, %q, %v", kind, payload, err)
	}
	if _, err := a.f.Write([]byte{frameStdin, 0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.receive(nil); err == nil {
		t.Error("a frame of 4 GB was taken")
	}
	a.Close()
	if _, _, err := b.receive(nil); err == nil {
		t.Error("a frame came from nobody")
	}
}
