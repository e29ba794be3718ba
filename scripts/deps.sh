#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Installs the Debian packages that the build and the tests need. Does nothing,
# and needs neither root nor network, when they are all there.
#
#   deps.sh [kernels]   and what other kernels are booted with
set -euo pipefail

# CRIU, as criu/Makefile.packages and Makefile.config name them.
criu=(libprotobuf-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libnl-3-dev libnl-route-3-dev
	libcap-dev libnet1-dev libnftables-dev libgnutls28-dev libbsd-dev libbpf-dev uuid-dev pkg-config)
build=(gcc libc6-dev libjson-c-dev make patch xz-utils)
# redis-tools has the program of the server, too, but not the service. clang is
# for the sanitizers that gcc does not have.
tests=(iproute2 iputils-arping libndp-tools procps util-linux python3 openssl redis-tools clang libclang-rt-14-dev)
# A container.
containers=(runc)
# CRIU's own tests.
zdtm=(libaio-dev python3-yaml python3-protobuf iptables nftables)
# Other kernels: qemu-system-common has the guests' filesystem daemon in Debian 12, a package of its own later.
kernels=(qemu-system-x86 qemu-system-common kmod cpio zstd)

# is_known PACKAGE: to apt, which may have no lists at all yet.
is_known()
{
	[ -n "$(apt-cache pkgnames qemu-system-x86)" ] || apt-get -qq update
	apt-cache show "$1" >/dev/null 2>&1
}

wanted=("${criu[@]}" "${build[@]}" "${tests[@]}" "${containers[@]}" "${zdtm[@]}")
case "${1:-}" in
'') ;;
kernels)
	wanted+=("${kernels[@]}")
	if command -v apt-cache >/dev/null && is_known virtiofsd; then
		wanted+=(virtiofsd)
	fi
	;;
*)
	echo "usage: deps.sh [kernels]" >&2
	exit 2
	;;
esac
missing=()
for package in "${wanted[@]}"; do
	if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
		missing+=("$package")
	fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "deps: this is no Debian: install what your distribution calls ${missing[*]}" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	echo "deps: missing packages, run \`make deps\` as root, or install: ${missing[*]}" >&2
	exit 1
fi

echo "  DEPS     installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 install "${missing[@]}"
