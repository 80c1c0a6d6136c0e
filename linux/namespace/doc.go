// Package namespace opens and enters the kernel's namespaces (namespaces(7)) and speaks of user and group ids that are
// mapped between them (user_namespaces(7)).
package namespace
