#!/usr/bin/env bash
# Builds the root file systems of the default image, one per architecture, from Debian's source package of busybox and
# Debian's musl: build.sh [amd64|arm64 ...]. Run it on Debian; the result depends on Debian's versions of what it takes,
# which it writes into provenance.json, and on nothing else: the same versions give the same bytes.
#
# musl and not glibc: a static program of glibc loads shared libraries of the same glibc when it looks up a name, and
# crashes in nslookup and wget when there are others, or none.
set -euo pipefail
export LC_ALL=C TZ=UTC
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=${SUITE:-bookworm}
archive=${ARCHIVE:-http://deb.debian.org/debian}
[ $# -gt 0 ] || set -- amd64 arm64
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# gcc's and musl's names of an architecture.
triplet() {
	case $1 in
	amd64) echo x86_64-linux-gnu ;;
	arm64) echo aarch64-linux-gnu ;;
	*) echo "no such architecture: $1" >&2; return 1 ;;
	esac
}

# apt of its own: the machine's package lists, sources and architectures stay as they are.
configure_apt() {
	mkdir -p "$work"/apt/{lists/partial,cache/archives/partial}
	: >"$work/apt/status"
	cat >"$work/apt/debian.sources" <<-EOS
		Types: deb deb-src
		URIs: $archive
		Suites: $suite $suite-updates
		Components: main
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	EOS
	cat >"$work/apt/conf" <<-EOS
		APT::Architectures { "amd64"; "arm64"; };
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Acquire::Retries "3";
		Dir::State::lists "$work/apt/lists";
		Dir::State::status "$work/apt/status";
		Dir::Cache "$work/apt/cache";
		Dir::Etc::sourcelist "$work/apt/debian.sources";
		Dir::Etc::sourceparts "-";
	EOS
	export APT_CONFIG=$work/apt/conf
	apt-get -qq update
}

need_compilers() {
	local arch tool missing=()
	for tool in make bzip2 dpkg-source; do
		command -v "$tool" >/dev/null || missing=(build-essential bzip2)
	done
	for arch in "$@"; do
		tool=$(triplet "$arch")
		command -v "$tool-gcc" >/dev/null || missing+=("gcc-${tool//_/-}")
	done
	[ ${#missing[@]} -eq 0 ] || env -u APT_CONFIG apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# fetch_libc ARCH: musl and the kernel's headers for ARCH under $work/ARCH/usr, and a compiler that uses them alone.
fetch_libc() {
	local arch=$1 gnu musl sysroot=$work/$1 deb
	gnu=$(triplet "$arch")
	musl=${gnu%gnu}musl
	mkdir -p "$sysroot/debs"
	(cd "$sysroot/debs" && apt-get -qq download "musl-dev:$arch" "linux-libc-dev:$arch")
	for deb in "$sysroot"/debs/*.deb; do dpkg-deb -x "$deb" "$sysroot"; done
	# The kernel's headers, and none of another C library's, go beside musl's.
	mkdir -p "$sysroot/kernel"
	cp -r "$sysroot"/usr/include/{linux,asm-generic,mtd} "$sysroot/usr/include/$gnu/asm" "$sysroot/kernel/"
	sed -e "s|/usr/|$sysroot/usr/|g" -e "s|-isystem include%s|-isystem $sysroot/kernel -isystem include%s|" \
		-e 's|Scrt1.o|crt1.o|; s|crtbeginS|crtbeginT|; s|crtendS|crtend|' \
		"$sysroot/usr/lib/$musl/musl-gcc.specs" >"$sysroot/specs"
	printf '#!/bin/sh\nexec %s-gcc "$@" -specs %s\n' "$gnu" "$sysroot/specs" >"$sysroot/cc"
	chmod +x "$sysroot/cc"
}

# build_busybox ARCH: the program, in $work/ARCH/busybox.
build_busybox() {
	local arch=$1 tree=$work/$1/source name value
	cp -r "$work/source" "$tree"
	make -s -C "$tree" defconfig >/dev/null
	while IFS== read -r name value; do
		[[ $name == CONFIG_* ]] || continue
		sed -i "/^$name=/d; /^# $name is not set/d" "$tree/.config"
		if [ "$value" = n ]; then echo "# $name is not set"; else echo "$name=$value"; fi >>"$tree/.config"
	done <"$here/config"
	yes '' | make -s -C "$tree" oldconfig >/dev/null || [ "${PIPESTATUS[1]}" = 0 ]
	make -s -C "$tree" -j"$(nproc)" CC="$work/$arch/cc" HOSTCC=gcc CROSS_COMPILE="$(triplet "$arch")-" \
		CONFIG_EXTRA_CFLAGS="-ffile-prefix-map=$work=. -fno-pie" CONFIG_EXTRA_LDFLAGS=-no-pie \
		busybox busybox.links >"$work/$arch/log" 2>&1 || { tail -30 "$work/$arch/log" >&2; return 1; }
	cp "$tree/busybox" "$work/$arch/busybox"
}

# pack ARCH: the root file system around the program, as busybox_ARCH.tar.gz.
pack() {
	local arch=$1 root=$work/$1/root applet
	mkdir -p "$root"/{bin,dev,etc,home,lib,mnt,opt,proc,root,run,srv,sys,tmp,usr/lib,usr/local/bin,usr/share,var/cache,var/lib,var/log,var/spool,var/tmp,var/www}
	install -m 755 "$work/$arch/busybox" "$root/bin/busybox"
	# All programs are in /bin, whatever folder a script looks for them in.
	ln -s bin "$root/sbin"
	ln -s ../bin "$root/usr/bin"
	ln -s ../bin "$root/usr/sbin"
	ln -s ../run "$root/var/run"
	while read -r applet; do
		[ -e "$root/bin/${applet##*/}" ] || ln -s busybox "$root/bin/${applet##*/}"
	done <"$work/$arch/source/busybox.links"
	cat >"$root/etc/passwd" <<-EOS
		root:x:0:0:root:/root:/bin/sh
		daemon:x:1:1:daemon:/usr/sbin:/bin/false
		bin:x:2:2:bin:/bin:/bin/false
		sys:x:3:3:sys:/dev:/bin/false
		mail:x:8:8:mail:/var/spool/mail:/bin/false
		www-data:x:33:33:www-data:/var/www:/bin/false
		nobody:x:65534:65534:nobody:/home:/bin/false
	EOS
	cat >"$root/etc/group" <<-EOS
		root:x:0:
		daemon:x:1:
		bin:x:2:
		sys:x:3:
		adm:x:4:
		tty:x:5:
		disk:x:6:
		mail:x:8:
		wheel:x:10:root
		www-data:x:33:
		users:x:100:
		nogroup:x:65534:
	EOS
	sed 's/:.*/:*:::::::/' "$root/etc/passwd" >"$root/etc/shadow"
	printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' >"$root/etc/hosts"
	: >"$root/etc/hostname" # what the engine mounts there needs no copy of the folder
	: >"$root/etc/resolv.conf"
	echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
	printf '/bin/sh\n/bin/ash\n' >"$root/etc/shells"
	cat >"$root/etc/profile" <<-'EOS'
		export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
		umask 022
	EOS
	ln -s /proc/mounts "$root/etc/mtab"
	chmod 1777 "$root/tmp" "$root/var/tmp"
	chmod 700 "$root/root"
	chmod 640 "$root/etc/shadow"
	tar -C "$root" --sort=name --format=ustar --numeric-owner --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" \
		-cf - . | gzip -9n >"$here/busybox_$arch.tar.gz"
}

# The version that apt's private folders hold of a package.
version_of() { apt-cache show "$1" | sed -n 's/^Version: //p' | head -1; }

provenance() {
	local dsc=$1 arch
	printf '{\n'
	printf '  "name": "busybox",\n  "version": "%s",\n' "$(sed -n 's/^Version: //p' "$dsc")"
	printf '  "date": "%s",\n' "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)"
	printf '  "license": "GPL-2.0-only",\n  "source": "%s/pool/main/b/busybox/%s",\n' "$archive" "${dsc##*/}"
	printf '  "files": {\n'
	sed -n '/^Checksums-Sha256:/,/^Files:/s/^ \([0-9a-f]*\) [0-9]* \(.*\)/    "\2": "sha256:\1",/p' "$dsc"
	printf '    "ping.patch": "sha256:%s"\n' "$(sha256sum "$here/ping.patch" | cut -d' ' -f1)"
	printf '  },\n  "libc": "musl %s (MIT)",\n' "$(version_of musl-dev:amd64)"
	printf '  "headers": "linux-libc-dev %s",\n' "$(version_of linux-libc-dev:amd64)"
	printf '  "compiler": "%s",\n' "$(gcc --version | head -1)"
	printf '  "rootfs": {\n'
	for arch in amd64 arm64; do
		[ "$arch" = amd64 ] || printf ',\n'
		printf '    "%s": "sha256:%s"' "$arch" "$(sha256sum "$here/busybox_$arch.tar.gz" | cut -d' ' -f1)"
	done
	printf '\n  }\n}\n'
}

configure_apt
need_compilers "$@"
# apt has checked the digests against its signed list.
(cd "$work" && apt-get -qq source --download-only busybox)
dsc=$(echo "$work"/busybox_*.dsc)
dpkg-source --no-check -x "$dsc" "$work/source" >/dev/null
patch -s -d "$work/source" -p1 <"$here/ping.patch"
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l "$work/source/debian/changelog" -S Timestamp)
export SOURCE_DATE_EPOCH
for arch in "$@"; do
	fetch_libc "$arch"
	build_busybox "$arch"
	pack "$arch"
done
provenance "$dsc" >"$work/provenance.json"
mv "$work/provenance.json" "$here/provenance.json"
ls -l "$here"/*.tar.gz
