// Package network gives containers a network: bridges, veth pairs, addresses, published ports and the firewall around
// them. All of it is done by netlink from this process; no ip, nft or iptables program is run.
//
// A Network is a definition in a file (network.go) and, once the first container uses it, a Linux bridge (bridge.go).
// Attaching a container makes an endpoint (endpoint.go):
//
//	lease an address        one file per address, made with O_EXCL: no lock over the pool       ipam.go
//	write the record        what will be made, so that a killed engine's half can be undone     endpoint.go
//	ensure the bridge       named, addressed, sysctls; kept when the container goes             bridge.go
//	make the veth pair      one end on the bridge, the other in the container's namespace       veth.go
//	open the firewall       the address joins the sets of the table `inet berth`, the published
//	                        ports its maps: one atomic batch of elements                        firewall.go
//
// Other drivers: overlay is a bridge with a VXLAN link to other hosts (overlay.go), macvlan and ipvlan are links on one of
// the host's (lan.go). Package egress limits what a container may reach.
//
// Undoing it needs none of this code: the namespace's end deletes the veth pair, and the rest is an [Undo]: files to
// remove and ready-made netlink batches to send, which the container's monitor does.
//
// Every rule of the firewall is made once and never changes; `nft list table inet berth` shows rules that a person can
// read, and sets that say who has which address and port.
package network
