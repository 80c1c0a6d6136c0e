package tty

import "time"

// sizeChanges says when a window may have another size: Windows has no signal for it, so it is looked at four times a
// second.
func sizeChanges() (changed <-chan time.Time, end func()) {
	t := time.NewTicker(time.Second / 4)
	return t.C, t.Stop
}
