// Package flock locks files with flock(2): the lock belongs to the open file and is gone with the process, however
// it ends, so a killed process never leaves one behind.
package flock
