// Package arch has no code, only the tests that hold the whole tree to its architecture: who may import whom, how long a
// function and a package may be, what must not happen when a program starts, how large a program may be.
//
// A rule is stated once, as the table or constant at the top of its test. When a rule stands in the way of something
// better, change it there, and ARCHITECTURE.md with it.
package arch
