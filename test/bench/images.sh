#!/usr/bin/env bash
# Times pull, push, load and save of an image beside podman and containerd, interleaved: images.sh [RUNS] [MEGABYTES].
# The image has six layers of this host's own files under /usr, packed by gzip; a registry (Debian's docker-registry) is on
# the loopback interface. Prints a table in Markdown: medians in milliseconds, and ratios to berth. Peers that are not installed
# are left out. "tar xz" unpacks the same layers one after the other, and is what the disk and one core can do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
runs=${1:-5} size=${2:-300} port=${BENCH_PORT:-5979}
[ "$(id -u)" = 0 ] || { echo "images.sh: needs root" >&2; exit 1; }
for program in docker-registry skopeo; do
	command -v $program >/dev/null || { echo "images.sh: needs $program" >&2; exit 1; }
done
make -s build
work=$(mktemp -d)
export BERTH_ROOT=$work/root BERTH_STATE=$work/state PATH=$PWD/bin:$PATH
jobs=()
trap 'kill "${jobs[@]}" 2>/dev/null; wait; rm -rf "$work"' EXIT

printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: "127.0.0.1:%s"}\n' "$work" "$port" >"$work/registry.yml"
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
jobs+=($!)

# The image, as an OCI layout.
blobs=$work/layout/blobs/sha256
mkdir -p "$blobs"
keep() { d=$(sha256sum <"$1" | cut -d' ' -f1); n=$(stat -c %s "$1"); mv "$1" "$blobs/$d"; }
find /usr -xdev -type f -size -8M -printf '%s %P\n' 2>/dev/null | awk -v max=$((size * 1000000)) -v dir="$work" '
	{ s += $1; if (s > max) next; sub(/^[0-9]+ /, ""); print >(dir "/files" int(s * 6 / (max + 1))) }'
layers='' ids=''
for list in "$work"/files?; do
	tar -C /usr -cf "$work/tar" -T "$list"
	ids+=",\"sha256:$(sha256sum <"$work/tar" | cut -d' ' -f1)\""
	gzip -1 <"$work/tar" >"$work/layer"
	keep "$work/layer"
	layers+=",{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$d\",\"size\":$n}"
	gz+=("$blobs/$d")
done
arch=$(go env GOARCH)
echo "{\"architecture\":\"$arch\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[${ids#,}]}}" >"$work/json"
keep "$work/json"
echo "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"sha256:$d\",\"size\":$n},\"layers\":[${layers#,}]}" >"$work/json"
keep "$work/json"
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"
echo "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:$d\",\"size\":$n,\"annotations\":{\"org.opencontainers.image.ref.name\":\"bench\"}}]}" >"$work/layout/index.json"
image=127.0.0.1:$port/bench/image:1
until skopeo --insecure-policy copy -q --dest-tls-verify=false "oci:$work/layout:bench" "docker://$image"; do sleep 0.2; done
tar -C "$work/layout" -cf "$work/archive.tar" .

time_of() { # NAME COMMAND...
	local name=$1 begin
	shift
	sync
	begin=${EPOCHREALTIME/./}
	"$@" >/dev/null 2>"$work/err" || { echo "images.sh: $name: $(cat "$work/err")" >&2; return; }
	echo "$((${EPOCHREALTIME/./} - begin)) $name" >>"$work/times"
}
podman=(podman --root "$work/podman" --runroot "$work/podman.run")
ctr=(ctr -a "$work/containerd.sock" -n bench)
if command -v containerd >/dev/null && command -v ctr >/dev/null; then
	printf 'version = 2\nroot = "%s/containerd"\nstate = "%s/containerd.run"\n[grpc]\naddress = "%s/containerd.sock"\n' "$work" "$work" "$work" >"$work/containerd.toml"
	containerd -c "$work/containerd.toml" >"$work/containerd.log" 2>&1 &
	jobs+=($!)
	until "${ctr[@]}" version >/dev/null 2>&1; do sleep 0.1; done
	with_ctr=1
fi
unpack() { rm -rf "$work/unpacked" && mkdir "$work/unpacked" && for f in "${gz[@]}"; do tar -C "$work/unpacked" -xzf "$f" || return; done; }

for ((i = 0; i < runs; i++)); do
	time_of "unpack|tar xz" unpack
	time_of "pull|berth" berth pull -q "$image"
	time_of "pull again|berth" berth pull -q "$image"
	time_of "push to a new repository|berth" sh -c "berth tag $image 127.0.0.1:$port/berth/push$i:1 && berth push -q 127.0.0.1:$port/berth/push$i:1"
	time_of "save|berth" berth save -o "$work/saved.tar" "$image"
	berth rmi -f "$image" "127.0.0.1:$port/berth/push$i:1" >/dev/null
	time_of "load|berth" berth load -i "$work/archive.tar"
	berth rmi -f "$(berth images -q)" >/dev/null
	if command -v podman >/dev/null; then
		time_of "pull|podman" "${podman[@]}" pull -q --tls-verify=false "$image"
		time_of "pull again|podman" "${podman[@]}" pull -q --tls-verify=false "$image"
		time_of "push to a new repository|podman" "${podman[@]}" push -q --tls-verify=false "$image" "127.0.0.1:$port/podman/push$i:1"
		rm -f "$work/saved.tar"
		time_of "save|podman" "${podman[@]}" save -q --format oci-archive -o "$work/saved.tar" "$image"
		"${podman[@]}" rmi -af >/dev/null
		time_of "load|podman" "${podman[@]}" load -q -i "$work/archive.tar"
		"${podman[@]}" rmi -af >/dev/null
	fi
	if [ -n "${with_ctr:-}" ]; then
		time_of "pull|ctr" "${ctr[@]}" images pull --plain-http "$image"
		time_of "pull again|ctr" "${ctr[@]}" images pull --plain-http "$image"
		time_of "push to a new repository|ctr" "${ctr[@]}" images push --plain-http "127.0.0.1:$port/ctr/push$i:1" "$image"
		time_of "save|ctr" "${ctr[@]}" images export "$work/saved.tar" "$image"
		"${ctr[@]}" images rm --sync "$image" >/dev/null
		time_of "load|ctr" "${ctr[@]}" images import --base-name bench/load "$work/archive.tar"
		"${ctr[@]}" images rm --sync $("${ctr[@]}" images ls -q) >/dev/null
	fi
done
sort -n "$work/times" | awk '
	{ t = $1; $1 = ""; name = substr($0, 2); n[name]++; v[name, n[name]] = t }
	END { for (name in n) { split(name, q, "|"); m = v[name, int((n[name] + 1) / 2)] / 1000; at[q[1], q[2]] = m; what[q[1]]; who[q[2]] }
		for (w in what) for (p in who) if ((w, p) in at) { b = at[w, "berth"]; if (!b) b = at["pull", "berth"]
			printf "| %s | %s | %.0f | %.2f |\n", w, p, at[w, p], at[w, p] / b } }' | sort |
	awk 'BEGIN { print "| what | who | median, ms | ÷ berth |\n|---|---|---:|---:|" } { print }'
du -sh --apparent-size "$work/archive.tar" | awk '{ print "\nThe archive has " $1 "." }'
