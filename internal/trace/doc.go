// Package trace is the one door through which Berth changes the kernel's state. Each change is a step with a name,
// its arguments, how long it took, and one line of why it is done:
//
//	err := trace.Step("pivot_root", "the image becomes /, the host's files are out of reach", "new_root", path).
//		Do(func() error { return unix.PivotRoot(".", ".") })
//
// The list of steps serves `run --explain` (narrated while it happens), `explain`, `--timing`, the text of a failed
// step, and golden tests of the order of a start. Nobody looking costs an append per step.
//
// It is also where tests break things: see [Begin].
package trace
