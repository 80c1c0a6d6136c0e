// Package osthread runs code on an operating system thread that nothing else uses and that ends with it. What such code
// changes of its thread alone (namespaces, cgroup, working directory) is gone afterwards.
package osthread

import "runtime"

// Run calls fn on a thread of its own and returns its error. The thread ends, because the goroutine that is locked to
// it ends; a fn that leaves by runtime.Goexit, as testing's FailNow does, ends it as well, and Run then returns nil.
//
// It is never the main thread, which would not end: it would stay in the namespaces that fn entered, and with it
// everything that others, and we in /proc/self, see of this process.
func Run(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if isMain() {
			// Held here meanwhile, the main thread cannot be given to the goroutine that is started next.
			defer runtime.UnlockOSThread()
			done <- Run(fn)
			return
		}
		var err error
		defer func() { done <- err }()
		err = fn()
	}()
	return <-done
}
