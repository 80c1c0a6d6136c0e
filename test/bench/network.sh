#!/usr/bin/env bash
# Times the network of containers beside a veth pair and a bridge made by hand, and podman: network.sh [RUNS].
# Prints tables in Markdown. All of it happens in a network namespace that stands for a host, with a neighbour in its LAN.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
runs=${1:-20}
[ "$(id -u)" = 0 ] || { echo "network.sh: needs root" >&2; exit 1; }
if [ -z "${BENCH_INSIDE:-}" ]; then
	make -s build
	BENCH_INSIDE=1 exec unshare --mount --net --propagation private "$0" "$@"
fi
work=$(mktemp -d)
export BERTH_ROOT=$work/root BERTH_STATE=$work/state PATH=$PWD/bin:$PATH
trap 'berth ps -aq | xargs -r berth rm -f >/dev/null; podman rm -f -t 0 bench >/dev/null 2>&1; podman rmi -f berth-bench >/dev/null 2>&1; umount -l /run; rm -rf "$work"' EXIT
mount -t tmpfs none /run
ip link set lo up
ip netns add lan
ip link add uplink0 type veth peer name eth0 netns lan
ip addr add 192.0.2.1/24 dev uplink0
ip link set uplink0 up
ip -n lan addr add 192.0.2.2/24 dev eth0
ip -n lan link set eth0 up
# The yardstick: what the kernel does without anybody's rules.
ip netns add bare
ip link add br-bare type bridge
ip addr add 10.99.99.1/24 dev br-bare
ip link set br-bare up
ip link add veth-bare type veth peer name eth0 netns bare
ip link set veth-bare up master br-bare
ip -n bare addr add 10.99.99.2/24 dev eth0
ip -n bare link set eth0 up

berth run -d --name web -p 8080:9000 /bin/sleep 3600 >/dev/null
berth run -d --name peer /bin/sleep 3600 >/dev/null
netns() { echo "$BERTH_STATE/netns/$(berth inspect -f '{{.Id}}' "$1")"; }
address() { berth inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' "$1"; }
podman=
tar -C "$(dirname "$(ls -d "$work"/root/layers/*/fs/bin | head -1)")" -c . | podman import - berth-bench >/dev/null 2>&1 &&
	podman run -d --name bench -p 8081:9000 berth-bench /bin/sleep 3600 >/dev/null 2>"$work/podman.err" && podman=1

row() { # WHAT ARGUMENTS...
	local what=$1
	shift
	printf '| %s | %s |\n' "$what" "$( (timeout 30 python3 test/bench/network.py "$@" 2>/dev/null || echo "does not work –") | sed 's/ / | /')"
}
echo "| path | Gbit/s, one TCP stream | round trip, µs |"
echo "|---|---:|---:|"
row "loopback of the host" - - 127.0.0.1 9000
row "host → veth and bridge by hand" - /run/netns/bare 10.99.99.2 9000
row "host → container" - "$(netns web)" "$(address web)" 9000
row "container → container" "$(netns peer)" "$(netns web)" "$(address web)" 9000
row "LAN → published port" /run/netns/lan "$(netns web)" 192.0.2.1 8080 9000
row "host → published port by 127.0.0.1" - "$(netns web)" 127.0.0.1 8080 9000
if [ -n "$podman" ]; then
	ns=$(podman inspect -f '{{.NetworkSettings.SandboxKey}}' bench)
	row "podman: host → container" - "$ns" "$(podman inspect -f '{{.NetworkSettings.IPAddress}}' bench)" 9000
	row "podman: LAN → published port" /run/netns/lan "$ns" 192.0.2.1 8081 9000
fi
printf '\nQuestions a second, one at a time, to the resolver in a container: %s.\n\n' "$(python3 test/bench/network.py "$(netns peer)" - DNS web)"

declare -A cases=(
	["berth run --rm --net none"]="berth run --rm --net none /bin/true"
	["berth run --rm"]="berth run --rm /bin/true"
	["berth run --rm -p"]="berth run --rm -p 8090:80 /bin/true"
)
if [ -n "$podman" ]; then
	cases["podman run --rm --network none"]="podman run --rm --network none berth-bench /bin/true"
	cases["podman run --rm"]="podman run --rm berth-bench /bin/true"
fi
for ((i = 0; i < runs; i++)); do
	for name in "${!cases[@]}"; do
		sleep 0.06
		begin=${EPOCHREALTIME/./}
		${cases[$name]} >/dev/null 2>&1 || { echo "network.sh: $name fails" >&2; ${cases[$name]} || true; exit 1; }
		echo "$((${EPOCHREALTIME/./} - begin)) $name" >>"$work/times"
	done
done
sort -n "$work/times" | awk '
	{ t = $1; $1 = ""; name = substr($0, 2); n[name]++; v[name, n[name]] = t }
	END { for (name in n) printf "%9.1f | %s\n", v[name, int((n[name] + 1) / 2)] / 1000, name }' |
	sort -n | awk -F' \\| ' 'BEGIN { print "| start and end | median, ms |\n|---|---:|" } { print "| " $2 " | " $1 " |" }'
