// Package netdev moves network devices between network namespaces by raw netlink messages (rtnetlink(7)), with few lines for
// a program that has to be small.
package netdev
