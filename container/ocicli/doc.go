// Package ocicli is the command line of an OCI runtime, as runc's, which other engines call: the options before a
// command are global, those behind it are the command's, and a long option may have one dash or two.
package ocicli
