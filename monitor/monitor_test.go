//go:build linux

package monitor

import (
	"encoding/json"
	"testing"
)

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
