// Package systemd speaks with systemd over D-Bus, as far as control groups need it: it starts, changes and stops
// transient units (org.freedesktop.systemd1(5)).
//
// The wire format (D-Bus Specification 0.43, "Marshaling" and "Authentication Protocol") is written here by hand: the usual
// library would add 770 KB to a program of 4 MB, and what is needed of it is a dozen calls of strings, numbers and arrays.
// Nothing is opened, started or allocated before [Dial].
//
// The address is systemd's own socket first, which needs no bus, and the bus otherwise.
package systemd
