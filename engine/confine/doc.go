// Package confine reads --security-opt and decides by which labels the host's security modules know a container: a profile
// of AppArmor, contexts of SELinux for its processes and for its files. Where the host has AppArmor, a container has a
// profile of ours unless somebody says otherwise; where it has SELinux, the policy's contexts for containers with
// categories of its own, so that one that has broken out can touch no other's files.
//
// Labels are not kept: they follow from what the user said, from the container's id and from the host.
package confine
