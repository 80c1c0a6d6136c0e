//go:build linux

package signals

import "testing"

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]int{"KILL": 9, "SIGTERM": 15, "sigint": 2, "9": 9, "RTMIN": 34, "RTMIN+3": 37, "RTMAX-1": 63, "": 0, "0": 0, "65": 0, "NOPE": 0, "RTMIN+99": 0} {
		sig, err := Parse(text)
		if int(sig) != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", text, sig, err, want)
		}
	}
}
