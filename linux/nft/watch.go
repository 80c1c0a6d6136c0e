//go:build linux

package nft

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Watch returns a socket that becomes readable when tables, chains, sets or rules are deleted in the calling thread's
// network namespace, whosever they are, and when there is a new table or chain, or another policy of one. Elements that
// come and go, and rules that are added, wake nobody: the kernel filters.
func Watch() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	// The type of the first message of a datagram, as the kernel's filter loads it: in network byte order.
	load := func(message int) uint32 {
		return uint32(binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.NFNL_SUBSYS_NFTABLES<<8|uint16(message))))
	}
	messages := []int{unix.NFT_MSG_DELRULE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELSET, unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_NEWCHAIN}
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4}}
	for i, message := range messages {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(messages) - i), K: load(message)})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff})
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "firewall"), nil
}
