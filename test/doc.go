// Package test tries Berth as its users do: the programs as they are built, on the real kernel. What is in scripts/ are
// sessions at a shell; what a script cannot say is in Go.
package test
