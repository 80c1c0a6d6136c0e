//go:build linux

package event

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func all(t *testing.T, file string, since time.Time) (out []Event) {
	t.Helper()
	err := Read(t.Context(), file, Options{Since: since, Until: time.Now()}, func(e Event) error {
		out = append(out, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Writers do not disturb one another, and a torn line hides no other.
func TestAppend(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events")
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				Append(file, New("container", "create", fmt.Sprint(w, i), map[string]string{"name": strings.Repeat("x", 500)}))
			}
		})
	}
	wg.Wait()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, `{"Type":"contai`)
	f.Close()
	Append(file, New("container", "die", "last", nil))
	got := all(t, file, time.Unix(1, 0))
	if len(got) != 801 || got[800].Actor.ID != "last" {
		t.Errorf("%d events, the last %+v", len(got), got[len(got)-1])
	}
	if got := all(t, file, time.Now()); len(got) != 0 {
		t.Errorf("since now: %v", got)
	}
}

// A reader sees each event once, also those around the change to a new journal.
func TestFollow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events")
	const n = 60
	pad := map[string]string{"x": strings.Repeat("x", Limit/20)}
	seen := make(chan string, n)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error)
	go func() {
		ended <- Read(ctx, file, Options{}, func(e Event) error {
			seen <- e.Actor.ID
			return nil
		})
	}()
	time.Sleep(2 * pollInterval)
	for i := range n {
		Append(file, New("volume", "create", fmt.Sprint(i), pad))
		if i%10 == 9 { // it keeps one old journal: a reader must not be two behind
			for j := i - 9; j <= i; j++ {
				if id := <-seen; id != fmt.Sprint(j) {
					t.Fatalf("event %s, want %d", id, j)
				}
			}
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if fi, err := os.Stat(Old(file)); err != nil || fi.Size() < Limit {
		t.Errorf("no old journal: %v", err)
	}
}
