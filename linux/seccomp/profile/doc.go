// Package profile is the seccomp profile of a container that asks for none: Docker's list, made stricter. It is apart
// from package seccomp because only who writes a specification needs it.
package profile
