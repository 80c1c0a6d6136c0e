// Package caps knows the kernel's capabilities (capabilities(7)) and gives a thread exactly the sets it shall have.
package caps
