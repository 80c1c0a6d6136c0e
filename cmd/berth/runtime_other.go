//go:build !linux

package main

func playsRuntime() bool { return false }
