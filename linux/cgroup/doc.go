// Package cgroup makes control groups (cgroups(7)), limits them, counts what is in them, and ends them.
//
// The kernel has two interfaces. With version 1 each controller is a hierarchy of its own, so that one [Group] is a
// folder in each; with version 2 it is one folder. A hybrid host has its controllers on version 1 and a hierarchy of
// version 2 beside them without any: it is treated as version 1.
//
// One file per controller holds what is written for both versions, side by side. Entering a group is where the time
// goes: a parent that writes its child's pid into cgroup.procs waits for a grace period of the kernel, about 10 ms, in
// each hierarchy. So with version 1 the thread that is about to fork enters the group itself (Fork, 0.1 ms per hierarchy) and its child is born inside; with version 2 the child is cloned into the folder (Dir, CLONE_INTO_CGROUP).
package cgroup
