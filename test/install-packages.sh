#!/usr/bin/env bash
# Installs what the tests need from Debian's packages; quick when all of it is there.
set -euo pipefail
packages=(apparmor busybox-static containerd crun docker-registry e2fsprogs iproute2 mmdebstrap nftables podman python3 skopeo systemd umoci util-linux)
missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
export DEBIAN_FRONTEND=noninteractive
for try in 1 2 3; do
	if apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; then
		exit 0
	fi
	echo "try $try failed" >&2
	sleep 5
done
exit 1
