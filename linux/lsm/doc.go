// Package lsm speaks to the kernel's security modules that confine a program by a label of its process: AppArmor's
// profiles and SELinux's contexts (Documentation/admin-guide/LSM). Labels are set for what the calling thread executes
// next, so that nothing of ours needs the right to be what the program becomes.
//
// A write of a label that a file of the container's caught would leave the program unconfined and nobody would know
// (CVE-2019-16884, CVE-2019-19921, CVE-2023-28642, CVE-2025-52881): every one goes through a /proc that was checked to be
// one, and through files that nothing is mounted over.
package lsm
