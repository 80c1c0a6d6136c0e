package tty

import (
	"os"
	"sync"
)

// WatchSize calls set with the columns and rows of a terminal's window, at once and whenever they change, from one
// goroutine, until stop is called. After stop has returned set is not called any more. What set cannot do is its own
// affair: a window size that does not reach the container is no reason to end anything.
func WatchSize(f *os.File, set func(width, height uint16)) (stop func()) {
	changed, end := sizeChanges()
	quit := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		var lastW, lastH uint16
		for first := true; ; first = false {
			if w, h, err := GetSize(f); err == nil && (first || w != lastW || h != lastH) {
				lastW, lastH = w, h
				set(w, h)
			}
			select {
			case <-quit:
				return
			case <-changed:
			}
		}
	})
	var once sync.Once
	return func() {
		once.Do(func() {
			end()
			close(quit)
			watching.Wait()
		})
	}
}
