// Package seccomp turns the specification's list of system calls into a filter that the kernel runs before each call
// (seccomp(2)): a program for its classic BPF machine.
//
// The program first looks at the architecture, because the same number means another call elsewhere, then finds the
// number in a balanced tree of ranges, so that a call costs about eight comparisons whatever the length of the list. A
// number beyond all that the profile knows gives ENOSYS and not the profile's EPERM: programs that try a new call then
// fall back to an old one.
package seccomp
