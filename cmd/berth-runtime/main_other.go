//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "berth-runtime: containers run on Linux only")
	os.Exit(1)
}
