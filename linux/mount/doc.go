// Package mount works with file systems by handles, never by names that a container could change between two looks.
//
// Three ideas carry it. A [Root] is an open folder that no look-up below it can leave (openat2(2), RESOLVE_IN_ROOT).
// A [Tree] is a mount that is not attached anywhere yet: it is made, given its attributes, and only then moved onto
// the handle of its target (fsopen, open_tree, mount_setattr and move_mount; Linux 5.2 to 5.12), so that nobody ever
// sees it half-made. [Procfs] is a /proc of which it was checked that it is one.
//
// What older kernels lack is made up for here and nowhere else.
package mount
