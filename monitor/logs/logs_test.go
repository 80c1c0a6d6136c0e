//go:build linux

package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets the test program play the child that compresses.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == CompressArg {
		os.Exit(CompressMain())
	}
	os.Exit(m.Run())
}

func open(t *testing.T, c Config) *Writer {
	t.Helper()
	w, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

var all = Options{Stdout: true, Stderr: true, Tail: -1}

// read reads a log; not is for those that are not followed.
func read(t *testing.T, base string, o Options) (out []Entry) {
	t.Helper()
	err := Read(base, o, func() bool { return false }, func(e *Entry) error {
		out = append(out, *e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func texts(list []Entry) (out []string) {
	for _, e := range list {
		out = append(out, string(e.Log))
	}
	return out
}

// settle waits for the child that compresses.
func settle(w *Writer) {
	for w.Busy() {
		time.Sleep(time.Millisecond)
	}
}

// What is in the file is what Docker's readers expect.
func TestFormat(t *testing.T) {
	base := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{File: base, Attrs: map[string]string{"a": "b"}})
	w.Write(Stderr, []byte("\"quoted\" <tag>\x00 ü\n"))
	b, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got["time"]))
	if err != nil || time.Since(at) > time.Minute {
		t.Errorf("time %v: %v", got["time"], err)
	}
	delete(got, "time")
	want := map[string]any{"log": "\"quoted\" <tag>\x00 ü\n", "stream": "stderr", "attrs": map[string]any{"a": "b"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Whatever a program writes, in whatever pieces, comes back byte for byte.
func TestExact(t *testing.T) {
	base := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{File: base})
	var want [2]bytes.Buffer
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		b := make([]byte, r.IntN(5000))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		if r.IntN(3) == 0 {
			b = bytes.ReplaceAll(b, []byte("\n"), []byte("\xff")) // long lines
		}
		i := r.IntN(2)
		want[i].Write(b)
		w.Write([]byte{Stdout, Stderr}[i], b)
	}
	w.Finish()
	for i, o := range []Options{{Stdout: true, Tail: -1}, {Stderr: true, Tail: -1}} {
		var got bytes.Buffer
		for _, e := range read(t, base, o) {
			got.Write(e.Log)
		}
		if !bytes.Equal(got.Bytes(), want[i].Bytes()) {
			t.Errorf("stream %d: %d bytes, want %d", i, got.Len(), want[i].Len())
		}
	}
}

func TestLongLinesAreSplit(t *testing.T) {
	base := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{File: base})
	part := strings.Repeat("x", longestLine-1)
	for range 3 {
		w.Write(Stdout, []byte(part))
	}
	w.Write(Stdout, []byte("end\n"))
	got := texts(read(t, base, all))
	if strings.Join(got, "") != part+part+part+"end\n" || len(got) < 2 {
		t.Errorf("%d lines", len(got))
	}
}

// Files keep below their size, the oldest go, all but the newest are compressed, and what is left is read in order.
func TestRotation(t *testing.T) {
	for _, compress := range []bool{false, true} {
		dir := t.TempDir()
		base := filepath.Join(dir, "log")
		w := open(t, Config{File: base, MaxSize: 1000, MaxFiles: 3, Compress: compress})
		for i := range 100 {
			w.Write(Stdout, fmt.Appendf(nil, "line %d\n", i))
			settle(w)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
			if fi, err := e.Info(); err != nil || fi.Size() > 1000 {
				t.Errorf("%s: %v, %v", e.Name(), fi.Size(), err)
			}
		}
		want := []string{"log", "log.1", "log.2"}
		if compress {
			want = []string{"log", "log.1.gz", "log.2.gz"}
		}
		if !slices.Equal(names, want) {
			t.Errorf("files %v, want %v", names, want)
		}
		got := texts(read(t, base, all))
		if len(got) < 25 || len(got) > 60 {
			t.Errorf("%d lines are left", len(got))
		}
		for i, text := range got {
			if text != fmt.Sprintf("line %d\n", 100-len(got)+i) {
				t.Fatalf("line %d of %d: %q", i, len(got), text)
			}
		}
		for _, n := range []int{0, 1, 3, len(got) - 1, len(got), len(got) + 5} {
			o := all
			o.Tail = n
			if tail := texts(read(t, base, o)); !slices.Equal(tail, got[max(0, len(got)-n):]) {
				t.Errorf("the last %d: %q", n, tail)
			}
		}
	}
}

// A child whose file is rotated away while it is at work goes on with the next one.
func TestCompressionCatchesUp(t *testing.T) {
	base := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{File: base, MaxSize: 1000, MaxFiles: 2, Compress: true})
	for range 200 { // faster than a child begins
		w.Write(Stdout, []byte(strings.Repeat("x", 60)+"\n"))
	}
	settle(w)
	if _, err := os.Stat(base + ".1.gz"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{".1", ".2", ".gz.new"} {
		if _, err := os.Stat(base + name); err == nil {
			t.Errorf("%s is left", name)
		}
	}
}

// A time is found without reading what is before it.
func TestSince(t *testing.T) {
	base := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(base)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const n = 20000
	for i := range n {
		fmt.Fprintf(f, `{"log":"%d %s\n","stream":"stdout","time":%q}`+"\n", i, strings.Repeat("x", i%200), begin.Add(time.Duration(i)*time.Second).Format(time.RFC3339Nano))
	}
	f.Close()
	for _, first := range []int{0, 1, 777, n / 2, n - 1, n} {
		o := all
		o.Since = begin.Add(time.Duration(first) * time.Second)
		o.Until = o.Since.Add(2 * time.Second)
		got := texts(read(t, base, o))
		if want := max(0, min(3, n-first)); len(got) != want || want > 0 && !strings.HasPrefix(got[0], fmt.Sprint(first)+" ") {
			t.Errorf("since %d: %q", first, got)
		}
		if first < n {
			f, err := os.Open(base)
			if err != nil {
				t.Fatal(err)
			}
			offset, err := firstSince(f, o.Since)
			f.Close()
			var line int
			b := make([]byte, 2*block)
			k, _ := mustOpen(t, base).ReadAt(b, offset)
			if e, ok := parse(b[:bytes.IndexByte(b[:k], '\n')+1]); ok {
				_, _ = fmt.Sscan(string(e.Log), &line)
			}
			if err != nil || line > first || first-line > 2*block/80 {
				t.Errorf("since %d: found line %d, %v", first, line, err)
			}
		}
	}
}

func mustOpen(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// One that follows gets every line once and in order, however the files are rotated and compressed meanwhile.
func TestFollowOverRotation(t *testing.T) {
	base := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{File: base, MaxSize: 20000, MaxFiles: 1000, Compress: true})
	const n = 20000
	var mu sync.Mutex
	written := false
	go func() {
		for i := range n {
			w.Write(Stdout, fmt.Appendf(nil, "%d\n", i))
			if i%2000 == 0 {
				settle(w)
			}
		}
		mu.Lock()
		written = true
		mu.Unlock()
	}()
	o := all
	o.Follow = true
	next := 0
	err := Read(base, o, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return !written
	}, func(e *Entry) error {
		if string(e.Log) != fmt.Sprintf("%d\n", next) {
			return fmt.Errorf("line %q, want %d", e.Log, next)
		}
		next++
		return nil
	})
	if err != nil || next != n {
		t.Errorf("%d lines, %v", next, err)
	}
	settle(w)
}

// Times never go back, also when the clock was set back before this writer began.
func TestTimesNeverGoBack(t *testing.T) {
	base := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{File: base})
	w.Write(Stdout, []byte("before\n"))
	ahead := time.Now().Add(time.Hour)
	if err := os.Chtimes(base, ahead, ahead); err != nil {
		t.Fatal(err)
	}
	w = open(t, Config{File: base})
	w.Write(Stdout, []byte("after\n"))
	got := read(t, base, all)
	if len(got) != 2 || got[1].Time.Before(ahead.Add(-time.Second)) {
		t.Errorf("%v", got)
	}
}

// What was not yet a line when a writer ended is the begin of the first line of the next.
func TestResume(t *testing.T) {
	base := filepath.Join(t.TempDir(), "log")
	w := open(t, Config{File: base})
	w.Write(Stdout, []byte("one\ntw"))
	next := open(t, Config{File: base})
	next.Resume(w.Pending())
	next.Write(Stdout, []byte("o\n"))
	if got := texts(read(t, base, all)); !slices.Equal(got, []string{"one\n", "two\n"}) {
		t.Errorf("%q", got)
	}
}

// The quick way to read a line says the same as the other one, or nothing.
func TestPlain(t *testing.T) {
	for text, plain := range map[string]bool{
		`{"log":"a b\n","stream":"stdout","time":"2026-01-01T00:00:00.5Z"}`: true, `{"log":"\n","stream":"stderr","time":"2026-01-01T00:00:00Z"}`: true,
		`{"log":"a","stream":"stdout","time":"2026-01-01T00:00:00Z"}`: false, `{"log":"a\u003c\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}`: false,
		`{"log":"a\n","stream":"stdout","attrs":{"a":"b"},"time":"2026-01-01T00:00:00Z"}`: false, `{"log":"a\n","stream":"stdout","time":"yesterday"}`: false,
		`{"log":"","x":"\n","stream":"stdout","time":"2026-01-01T00:00:00Z"}`: false,
	} {
		quick := parsePlain([]byte(text + "\n"))
		if (quick != nil) != plain {
			t.Errorf("%s: %v", text, quick)
			continue
		}
		if e, ok := parse([]byte(text + " \n")); quick != nil && (!ok || string(e.Log) != string(quick.Log) || e.Stderr != quick.Stderr || !e.Time.Equal(quick.Time)) {
			t.Errorf("%s: %+v, %+v", text, quick, e)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"log":"a\n","stream":"stderr","time":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"log":"\ufffd","raw":"/w==","attrs":{"a":"b"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, ok := parse(b); ok && e == nil {
			t.Error("nothing was read, and it is right")
		}
		_, _ = parseJournal(b)
	})
}
