#!/usr/bin/env bash
# Makes a Debian root file system with real programs in it, once, for the tests that run them: debian-image.sh FILE.
set -euo pipefail
file=$1
[ -s "$file" ] && exit 0
mkdir -p "$(dirname "$file")"
for try in 1 2 3; do
	if mmdebstrap --quiet --variant=minbase --include=nginx-light,python3-minimal,redis-server,postgresql bookworm "$file.new"; then
		mv "$file.new" "$file"
		exit 0
	fi
	echo "try $try failed" >&2
	sleep 5
done
rm -f "$file.new"
exit 1
