#!/usr/bin/env bash
# Debian's docker.io, ufw and firewalld, started and loaded anew in turn beside Berth: firewalls.sh.
# Whatever they do, containers of Berth and of Docker reach a neighbour in the LAN, and their published ports are reached from
# it. All of it happens in namespaces that stand for a host, with copies of the settings in /etc.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "$(id -u)" = 0 ] || { echo "firewalls.sh: needs root" >&2; exit 1; }
if [ -z "${FIREWALLS_INSIDE:-}" ]; then
	for program in dockerd ufw firewalld iptables curl; do
		command -v "$program" >/dev/null || { echo "firewalls.sh: needs Debian's docker.io, ufw, firewalld, iptables and curl" >&2; exit 1; }
	done
	make -s build
	FIREWALLS_INSIDE=1 exec unshare --mount --net --pid --fork --kill-child --propagation private --mount-proc "$0"
fi
export PATH=$PWD/bin:$PATH
root=$(mktemp -d)
export BERTH_ROOT=$root/berth/root BERTH_STATE=$root/berth/state
mkdir -p "$root"/{etc,run,docker,www}
cp -a /etc/ufw /etc/firewalld /etc/default "$root/etc/"
for d in ufw firewalld default; do mount --bind "$root/etc/$d" "/etc/$d"; done
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus
failed=0
daemons=()
finish() {
	berth ps -aq | xargs -r berth rm -f >/dev/null
	docker ps -aq 2>/dev/null | xargs -r /usr/bin/docker rm -f >/dev/null
	[ ${#daemons[@]} = 0 ] || kill "${daemons[@]}" 2>/dev/null || true
	wait
	umount -l "$root/docker" 2>/dev/null || true # dockerd mounts it on itself
	umount -l /run
	rm -rf "$root"
}
trap finish EXIT

docker() { /usr/bin/docker "$@"; }
start_docker() {
	dockerd --data-root "$root/docker" --exec-root "$root/run/docker" --storage-driver vfs >>"$root/dockerd.log" 2>&1 &
	docker_pid=$!
	daemons+=($docker_pid)
	for _ in $(seq 150); do docker version >/dev/null 2>&1 && return; sleep 0.2; done
	tail "$root/dockerd.log"
	return 1
}
restart_docker() { kill $docker_pid; wait $docker_pid || true; start_docker; }
start_firewalld() {
	firewalld --nofork --nopid >"$root/firewalld.log" 2>&1 &
	firewalld_pid=$!
	daemons+=($firewalld_pid)
	for _ in $(seq 150); do firewall-cmd --state >/dev/null 2>&1 && return; sleep 0.2; done
	cat "$root/firewalld.log"
	return 1
}

# reaches WHAT COMMAND...: the command gets the page, in some seconds.
reaches() {
	local what=$1
	shift
	for _ in $(seq 25); do
		if timeout 2 "$@" 2>/dev/null | grep -q hello; then return; fi
		sleep 0.2
	done
	echo "  $what: no"
	failed=1
}
lan=(ip netns exec lan curl -s -m 1)
look() { # WHEN
	echo "$1"
	reaches "from the LAN to Berth's port" "${lan[@]}" http://192.0.2.1:8080/
	reaches "from this host to Berth's port" curl -s -m 1 http://127.0.0.1:8080/
	reaches "from Berth's container to the LAN" berth exec web wget -q -O - http://192.0.2.2/
	reaches "from Berth's container to another by name" berth exec peer wget -q -O - http://web/
	if "${lan[@]}" "http://$address/" >/dev/null; then
		echo "  the LAN reaches a container past its published port"
		failed=1
	fi
	[ -n "${docker_pid:-}" ] || return 0
	reaches "from the LAN to Docker's port" "${lan[@]}" http://192.0.2.1:8081/
	reaches "from Docker's container to the LAN" /usr/bin/docker exec web wget -q -O - http://192.0.2.2/
}

ip link set lo up
ip netns add lan
ip link add uplink0 type veth peer name eth0 netns lan
ip addr add 192.0.2.1/24 dev uplink0
ip link set uplink0 up
ip route add default via 192.0.2.2
ip -n lan addr add 192.0.2.2/24 dev eth0
ip -n lan link set eth0 up
ip -n lan link set lo up
echo hello >"$root/www/index.html"
ip netns exec lan busybox httpd -p 80 -h "$root/www"
echo 0 >/proc/sys/net/ipv4/ip_forward # as on a host that is no router: who switches it on, forbids the rest
dbus-daemon --system --fork

berth run -d --name web -p 8080:80 -v "$root/www:/www:ro" /bin/httpd -f -p 80 -h /www >/dev/null
berth run -d --name peer /bin/sleep 10000 >/dev/null
address=$(berth inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' web)
ip -n lan route add "$address" via 192.0.2.1
look "Berth alone"
ufw --force enable >/dev/null
look "ufw is enabled"
ufw reload >/dev/null
look "ufw is loaded anew"
ufw --force disable >/dev/null
look "ufw is disabled"
start_firewalld
look "firewalld is started"
firewall-cmd -q --reload
look "firewalld is loaded anew"
start_docker
berth export peer | docker import - busybox >/dev/null
docker run -d --name web --restart always -p 8081:80 -v "$root/www:/www:ro" busybox /bin/httpd -f -p 80 -h /www >/dev/null
look "Docker is started beside firewalld"
firewall-cmd -q --reload
look "firewalld is loaded anew beside Docker"
kill "$firewalld_pid"
wait "$firewalld_pid" || true
restart_docker
look "firewalld is stopped, Docker started anew"
ufw --force enable >/dev/null
look "ufw is enabled beside Docker"
ufw reload >/dev/null
look "ufw is loaded anew beside Docker"
iptables -F FORWARD
restart_docker
look "somebody has flushed FORWARD, and Docker was started anew"
berth restart -t 0 web >/dev/null
look "Berth's container is started anew"
if [ $failed = 0 ]; then echo "all of it works"; fi
exit $failed
