//go:build !linux

package main

func main() { panic("the guest runs Linux") }
