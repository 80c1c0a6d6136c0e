#!/usr/bin/env bash
# Times a container's start and end, beside other runtimes on the same machine, interleaved: bench.sh [RUNS].
# Prints a table in Markdown: medians in milliseconds, and ratios to crun. Peers that are not installed are left out.
#
# All of it happens in a mount namespace in which a hybrid host shows its version 1 hierarchies only, because crun refuses
# hybrid hosts; so everybody does the same work. A pause before each start lets the kernel finish taking down the
# container of the one before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
runs=${1:-40}
[ "$(id -u)" = 0 ] || { echo "bench.sh: needs root" >&2; exit 1; }
if [ -z "${BENCH_INSIDE:-}" ]; then
	make -s build
	BENCH_INSIDE=1 exec unshare --mount --propagation private "$0" "$@"
fi
mountpoint -q /sys/fs/cgroup/unified && umount /sys/fs/cgroup/unified
work=$(mktemp -d)
trap 'PATH=$PWD/bin:$PATH; export BERTH_ROOT=$work/root BERTH_STATE=$work/state; berth ps -aq | xargs -r berth rm -f >/dev/null; rm -rf "$work"' EXIT
export BERTH_ROOT=$work/root BERTH_STATE=$work/state PATH=$PWD/bin:$PATH

berth run --rm --net none /bin/true
mkdir "$work/bundle"
cp -a "$(dirname "$(ls -d "$work"/root/layers/*/fs/bin)")" "$work/bundle/rootfs"
berth-runtime spec -b "$work/bundle"
# Version 1.0.2 of the specification is what all of them understand.
sed -i 's/"ociVersion": "[0-9.]*"/"ociVersion": "1.0.2"/' "$work/bundle/config.json"
sed -i 's/"terminal": true/"terminal": false/; s/^\(\s*\)"sh"$/\1"\/bin\/true"/' "$work/bundle/config.json"
berth run -d --net none --name idle /bin/sleep 3600 >/dev/null

declare -A cases=(
	["berth-runtime run, the same bundle"]="berth-runtime run -b $work/bundle bench-berth"
	["berth run --rm --net none"]="berth run --rm --net none /bin/true"
	["berth exec"]="berth exec idle /bin/true"
	["process: berth --version"]="berth --version"
	["process: berth-runtime --version"]="berth-runtime --version"
)
if command -v gcc >/dev/null && gcc -O2 -static -o "$work/floor" test/bench/floor.c 2>/dev/null; then
	cases["the floor, in C"]="$work/floor $work/bundle/rootfs /bin/true"
fi
for peer in crun runc; do
	if command -v $peer >/dev/null && $peer run -b "$work/bundle" bench-try >/dev/null 2>&1; then
		cases["$peer run, the same bundle"]="$peer run -b $work/bundle bench-$peer"
	fi
done
if command -v podman >/dev/null && tar -C "$work/bundle/rootfs" -c . | podman import - berth-bench >/dev/null 2>&1 &&
	podman run --rm --network none berth-bench /bin/true >/dev/null 2>&1; then
	cases["podman run --rm --network none"]="podman run --rm --network none berth-bench /bin/true"
fi

for ((i = 0; i < runs; i++)); do
	for name in "${!cases[@]}"; do
		sleep 0.04
		begin=${EPOCHREALTIME/./}
		${cases[$name]} >/dev/null 2>&1 || { echo "bench.sh: $name fails" >&2; ${cases[$name]} || true; exit 1; }
		echo "$((${EPOCHREALTIME/./} - begin)) $name" >>"$work/times"
	done
done
command -v podman >/dev/null && podman rmi -f berth-bench >/dev/null 2>&1 || true

sort -n "$work/times" | awk '
	{ t = $1; $1 = ""; name = substr($0, 2); n[name]++; v[name, n[name]] = t }
	END {
		for (name in n) m[name] = v[name, int((n[name] + 1) / 2)] / 1000
		base = m["crun run, the same bundle"]
		for (name in m) printf "%9.1f | %s | %s\n", m[name], base ? sprintf("%.2f", m[name] / base) : "–", name
	}' | sort -n | awk -F' \\| ' 'BEGIN { print "| what | median, ms | ÷ crun |\n|---|---:|---:|" } { print "| " $3 " | " $1 " | " $2 " |" }'
for i in $(seq 20); do berth run -d --net none --name "idle$i" /bin/sleep 3600 >/dev/null; done
sleep 4
sed -s -n 's/.*"monitor": \([0-9]*\),/\1/p' "$work"/state/containers/*/status.json | while read -r pid; do cat "/proc/$pid/smaps_rollup"; done |
	awk '/^Pss:/ { n++; p += $2 } /^Pss_Anon:/ { a += $2 } END { printf "\nAn idle container'"'"'s monitor, of %d: %.0f KiB (PSS), %.0f of them not shared with others.\n", n, p / n, a / n }'
