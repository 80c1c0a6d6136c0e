#!/usr/bin/env bash
# Times the network of containers beside a veth pair and a bridge made by hand, Docker and podman: network.sh [RUNS [PARALLEL]].
# Prints tables in Markdown. All of it happens in namespaces that stand for a host, with a neighbour in its LAN. Needs
# Debian's iperf3, iputils-ping, wrk, nginx-light and dnsperf; podman and docker.io are measured if they are there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
runs=${1:-20} parallel=${2:-100}
[ "$(id -u)" = 0 ] || { echo "network.sh: needs root" >&2; exit 1; }
for program in iperf3 ping wrk nginx dnsperf; do
	command -v "$program" >/dev/null || { echo "network.sh: there is no $program" >&2; exit 1; }
done
if [ -z "${BENCH_INSIDE:-}" ]; then
	make -s build
	BENCH_INSIDE=1 exec unshare --mount --net --pid --fork --kill-child --propagation private --mount-proc "$0" "$@"
fi
work=$(mktemp -d)
chmod 755 "$work"
export BERTH_ROOT=$work/root BERTH_STATE=$work/state PATH=$PWD/bin:$PATH
finish() {
	berth ps -aq | xargs -r berth rm -f >/dev/null
	[ -z "${podman:-}" ] || { podman ps -aq | xargs -r podman rm -f -t 0; podman rmi -f berth-bench; podman network rm -f bench; } >/dev/null 2>&1 || true
	[ -z "${docker_pid:-}" ] || { docker ps -aq | xargs -r docker rm -f; kill "$docker_pid"; wait "$docker_pid"; umount -l "$work/docker"; } >/dev/null 2>&1 || true
	umount -l /run
	rm -rf "$work"
}
trap finish EXIT
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

publish=(-p 8083:8080 -p 5204:5201)
berth run -d --name web "${publish[@]}" /bin/sleep 36000 >/dev/null
berth run -d --name peer /bin/sleep 36000 >/dev/null
netns() { echo "$BERTH_STATE/netns/$(berth inspect -f '{{.Id}}' "$1")"; }
address() { berth inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' "$1"; }
berth export peer >"$work/rootfs.tar"
if command -v podman >/dev/null && podman import "$work/rootfs.tar" berth-bench >/dev/null 2>&1; then
	podman=1
	podman run -d --name bench -p 8081:8080 -p 5202:5201 berth-bench /bin/sleep 36000 >/dev/null 2>"$work/podman.err" || podman=
fi
if command -v dockerd >/dev/null; then
	dockerd --data-root "$work/docker" --exec-root /run/docker --storage-driver vfs >"$work/dockerd.log" 2>&1 &
	docker_pid=$!
	for _ in $(seq 150); do docker version >/dev/null 2>&1 && break; sleep 0.2; done
	docker import "$work/rootfs.tar" berth-bench >/dev/null 2>&1 &&
		docker run -d --name bench -p 8082:8080 -p 5203:5201 berth-bench /bin/sleep 36000 >/dev/null 2>>"$work/dockerd.log" || docker_pid=
fi

inside() { # NAMESPACE COMMAND...
	local ns=$1
	shift
	if [ "$ns" = - ]; then "$@"; else nsenter --net="$ns" "$@"; fi
}
# serve NAMESPACE: iperf3 and an HTTP server in it, until the end.
serve() {
	local name=$RANDOM
	cat >"$work/nginx.$name" <<-EOS
		worker_processes 1; pid $work/pid.$name; error_log /dev/null; user root;
		events { worker_connections 512; }
		http { access_log off; keepalive_requests 1000000; server { listen 8080; location / { return 200 "hello\n"; } } }
	EOS
	inside "$1" nginx -c "$work/nginx.$name"
	inside "$1" iperf3 -s -D >/dev/null
}
row() { # WHAT CLIENT-NAMESPACE ADDRESS [HTTP-PORT IPERF-PORT [ADDRESS-TO-PING]]
	local gbits rtt http port=${4:-8080} iport=${5:-5201}
	gbits=$(inside "$2" iperf3 -c "$3" -p "$iport" -t 2 -J 2>/dev/null | sed -n 's/.*"bits_per_second":[^0-9]*\([0-9.e+]*\).*/\1/p' | tail -1)
	rtt=$(inside "$2" ping -q -c 300 -i 0.002 "${6:-$3}" 2>/dev/null | sed -n 's,^rtt [^=]*= [^/]*/\([^/]*\)/.*,\1,p')
	http=$(inside "$2" wrk -t 1 -c 8 -d 2s --latency "http://$3:$port/" 2>/dev/null | awk '/50%/ { l = $2 } /Requests\/sec/ { r = $2 } END { print l " | " r }')
	awk -v what="$1" -v g="${gbits:-0}" -v rtt="${rtt:-0}" -v http="$http" 'BEGIN { printf "| %s | %.1f | %.0f | %s |\n", what, g / 1e9, rtt * 1000, http }'
}
for ns in - /run/netns/bare "$(netns web)"; do serve "$ns"; done
echo "| path | iperf3, Gbit/s | ping, µs | HTTP, median | HTTP, requests/s |"
echo "|---|---:|---:|---:|---:|"
row "loopback of the host" - 127.0.0.1
row "host → veth and bridge by hand" - 10.99.99.2
row "Berth: host → container" - "$(address web)"
row "Berth: container → container" "$(netns peer)" "$(address web)"
row "Berth: LAN → published port" /run/netns/lan 192.0.2.1 8083 5204
row "Berth: host → published port by 127.0.0.1" - 127.0.0.1 8083 5204
if [ -n "${podman:-}" ]; then
	serve "$(podman inspect -f '{{.NetworkSettings.SandboxKey}}' bench)"
	at=$(podman inspect -f '{{.NetworkSettings.IPAddress}}' bench)
	row "podman: host → container" - "$at"
	row "podman: LAN → published port" /run/netns/lan 192.0.2.1 8081 5202
	row "podman: host → published port by 127.0.0.1" - 127.0.0.1 8081 5202
fi
if [ -n "${docker_pid:-}" ]; then
	serve "$(docker inspect -f '{{.NetworkSettings.SandboxKey}}' bench)"
	row "docker: host → container" - "$(docker inspect -f '{{.NetworkSettings.IPAddress}}' bench)"
	row "docker: LAN → published port" /run/netns/lan 192.0.2.1 8082 5203
	row "docker: host → published port by 127.0.0.1" - 127.0.0.1 8082 5203
fi

printf '\n| resolver in a container | questions/s |\n|---|---:|\n'
ask() { # WHAT NAMESPACE SERVER NAME
	printf '%s A\n' "$4" >"$work/questions"
	printf '| %s | %s |\n' "$1" "$(inside "$2" dnsperf -s "$3" -d "$work/questions" -c 4 -l 2 2>/dev/null | sed -n 's/.*Queries per second: *\([0-9]*\).*/\1/p')"
}
ask Berth "$(netns peer)" 127.0.0.11 web
if [ -n "${docker_pid:-}" ]; then
	docker network create bench >/dev/null && docker run -d --name named --network bench berth-bench /bin/sleep 36000 >/dev/null
	ask docker "$(docker inspect -f '{{.NetworkSettings.SandboxKey}}' named)" 127.0.0.11 named
	docker rm -f named >/dev/null && docker network rm bench >/dev/null
fi

declare -A cases=(
	["berth run --rm --net none"]="berth run --rm --net none /bin/true"
	["berth run --rm"]="berth run --rm /bin/true"
	["berth run --rm -p"]="berth run --rm -p 8090:80 /bin/true"
)
if [ -n "${podman:-}" ]; then
	cases["podman run --rm --network none"]="podman run --rm --network none berth-bench /bin/true"
	cases["podman run --rm"]="podman run --rm berth-bench /bin/true"
fi
if [ -n "${docker_pid:-}" ]; then
	cases["docker run --rm --network none"]="docker run --rm --network none berth-bench /bin/true"
	cases["docker run --rm"]="docker run --rm berth-bench /bin/true"
fi
for ((i = 0; i < runs; i++)); do
	for name in "${!cases[@]}"; do
		sleep 0.06
		begin=${EPOCHREALTIME/./}
		${cases[$name]} >/dev/null 2>&1 || { echo "network.sh: $name fails" >&2; ${cases[$name]} || true; exit 1; }
		echo "$((${EPOCHREALTIME/./} - begin)) $name" >>"$work/times"
	done
done
echo
sort -n "$work/times" | awk '
	{ t = $1; $1 = ""; name = substr($0, 2); n[name]++; v[name, n[name]] = t }
	END { for (name in n) printf "%9.1f | %9.1f | %s\n", v[name, int((n[name] + 1) / 2)] / 1000, v[name, 1] / 1000, name }' |
	sort -n | awk -F' \\| ' 'BEGIN { print "| start and end | median, ms | best, ms |\n|---|---:|---:|" } { print "| " $3 " | " $1 " | " $2 " |" }'

[ "$parallel" -gt 0 ] || exit 0
printf '\n| %s starts at once on a bridge | s |\n|---|---:|\n' "$parallel"
at_once() { # WHAT COMMAND...: a name is put behind it, then the rest
	local what=$1 begin
	shift
	begin=${EPOCHREALTIME/./}
	seq "$parallel" | xargs -P "$parallel" -I{} "$@" --name many{} ${image:-} /bin/sleep 36000 >/dev/null 2>"$work/err" || { head -3 "$work/err" >&2; what="$what (some failed)"; }
	awk -v what="$what" -v us=$((${EPOCHREALTIME/./} - begin)) 'BEGIN { printf "| %s | %.1f |\n", what, us / 1e6 }'
}
at_once "berth run -d" berth run -d
berth ps -q --filter name=many | xargs berth rm -f >/dev/null
image=berth-bench
[ -z "${podman:-}" ] || at_once "podman run -d" podman run -d
[ -z "${docker_pid:-}" ] || at_once "docker run -d" docker run -d
