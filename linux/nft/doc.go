// Package nft changes the elements of nftables sets and maps by raw netlink messages (nfnetlink(7),
// include/uapi/linux/netfilter/nf_tables.h), no program and no library needed.
//
// It is small on purpose. The rules of Berth's firewall never change while it runs: what comes and goes with a container
// are elements of sets (its address, its published ports). A batch of such changes is a plain slice of bytes, so the
// engine can prepare the batch that undoes its work and hand it to the monitor, which knows nothing of networks and only
// sends it when the container has ended.
package nft
