//go:build linux

package cgroup

import "math"

// curve is 10 to the power of (l²+125·l)/612 − 7/34, with l the binary logarithm of shares, rounded up.
func curve(shares uint64) uint64 {
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}
