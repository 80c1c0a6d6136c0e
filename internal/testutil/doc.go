// Package testutil has what tests of several packages need: namespaces of their own to break things in.
package testutil
