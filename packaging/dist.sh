#!/usr/bin/env bash
# dist.sh FOLDER: the archives to hand out, and SHA256SUMS. `make dist` runs it with the version and the linker's flags.
# One commit and one version of Go give the same bytes, on any machine.
set -euo pipefail
export LC_ALL=C TZ=UTC CGO_ENABLED=0
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=$1
go=${GO:-go}
: "${VERSION:?}" "${LDFLAGS:?}" "${SOURCE_DATE_EPOCH:?}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$out"
mkdir -p "$out"

# licences FOLDER PACKAGE...: the licence texts of the modules that the programs link, and of Go.
licences() {
	local folder=$1 module dir text
	shift
	install -D -m 644 "$("$go" env GOROOT)/LICENSE" "$folder/go/LICENSE" 2>/dev/null || true
	"$go" list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' "$@" | sort -u |
		while read -r module dir; do
			for text in "$dir"/LICENSE* "$dir"/COPYING* "$dir"/NOTICE*; do
				[ ! -f "$text" ] || install -D -m 644 "$text" "$folder/$module/${text##*/}"
			done
		done
}

# pack OS ARCH PROGRAM...
pack() {
	local os=$1 arch=$2 name=berth-$VERSION-$1-$2 program
	local folder=$work/$name
	shift 2
	mkdir -p "$folder"
	for program in "$@"; do
		GOOS=$os GOARCH=$arch "$go" build -trimpath -buildvcs=false -ldflags "$LDFLAGS" -o "$folder/" "./cmd/$program"
	done
	install -m 644 LICENSE NOTICE README.md "$folder/"
	GOOS=$os GOARCH=$arch licences "$folder/licenses" "${@/#/./cmd/}"
	chmod -R u=rwX,go=rX "$folder"
	tar -C "$work" --sort=name --format=ustar --numeric-owner --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" \
		-cf - "$name" | gzip -9n >"$out/$name.tar.gz"
}

pack linux amd64 berth berth-runtime
pack linux arm64 berth berth-runtime
pack windows amd64 berth
pack darwin amd64 berth
pack darwin arm64 berth
(cd "$out" && sha256sum -- *.tar.gz >SHA256SUMS && cat SHA256SUMS)
