#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Leaves one of Debian's cloud kernels in a directory, ready to be booted by
# test/kernels/vm.sh: vmlinux, modroot (its modules), initrd (if it cannot mount
# its root without modules), release and suite.
#
#   kernels-fetch.sh SERIES DIR    SERIES is one of the table below; KERNEL_SUITE overrides the suite
#
# What is there already, and of that series, is not fetched again.
set -euo pipefail
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=debian-archive.sh
. "$top/scripts/debian-archive.sh"

META=linux-image-cloud-amd64

die()
{
	printf 'kernels-fetch: %s\n' "$@" >&2
	exit 1
}

# suite_of SERIES: where Debian has it.
suite_of()
{
	case $1 in
	6.1) echo bookworm ;;
	6.12) echo trixie ;;
	7.2) echo sid ;;
	7.3) echo trixie-backports ;;
	*) die "it is not known which suite has Linux $1: name it by KERNEL_SUITE" ;;
	esac
}

# update_from SUITE: an apt that has that suite alone.
update_from()
{
	local sources

	for sources in "$work"/candidates/*.sources; do
		archive_sources "$sources" deb "$1" >"$work/sources.d/archive.sources"
		apt-get -c "$work/apt.conf" -qq update >>"$work/log" 2>&1 && return
	done
	die "suite $1 could not be had from the archive that this machine's apt sources name, see $work/log"
}

# newest_package SERIES: the newest image of the series. A suite keeps older
# ones, and the metapackage may have gone on to another series.
newest_package()
{
	apt-cache -c "$work/apt.conf" pkgnames linux-image- | awk -v series="linux-image-$1." '
		index($0, series) == 1 && /-cloud-amd64$/' | sort -V | tail -n 1
}

# with_parts PACKAGE: it, and what else the series has its kernel and modules in.
with_parts()
{
	echo "$1"
	apt-cache -c "$work/apt.conf" depends "$1" | awk '$1 == "Depends:" && $2 ~ /^linux-(base|modules|binary)-[0-9]/ { print $2 }'
}

# make_initrd MODROOT RELEASE OUT: what mounts the root, should the kernel need modules for that.
make_initrd()
{
	local modules dir=$work/initrd module

	modules=$(modprobe -d "$1" -S "$2" --show-depends -a virtio_pci virtio_console virtiofs |
		awk '$1 == "insmod" && !seen[$2]++ { print $2 }')
	[ -n "$modules" ] || return 0
	rm -rf "$dir"
	mkdir -p "$dir/dev" "$dir/new"
	for module in $modules; do
		case $module in
		*.xz) xz -dc "$module" >"$dir/$(basename "$module" .xz)" ;;
		*) cp "$module" "$dir/" ;;
		esac
		basename "$module" .xz >>"$dir/modules"
	done
	gcc -static -O1 -Wall -Werror -o "$dir/init" "$top/test/kernels/initrd-init.c"
	(cd "$dir" && find . | cpio -o -H newc --quiet) >"$3"
}

# unpack DIR PACKAGE: what has been downloaded.
unpack()
{
	local new=$1.new release=${2#linux-image-} root=$work/root modules image deb

	mkdir -p "$root"
	for deb in "$work"/got/*.deb; do
		dpkg-deb -x "$deb" "$root"
	done
	# Where these are has changed with the years.
	image=$(find "$root" -type f \( -name vmlinuz -o -name 'vmlinuz-*' \) -print -quit)
	modules=$(find "$root" -type d -path "*/lib/modules/$release" -print -quit)
	[ -n "$image" ] && [ -n "$modules" ] || die "there is no kernel, or there are no modules, in $2"
	rm -rf "$new"
	mkdir -p "$new/modroot/lib/modules"
	/usr/bin/python3 "$top/test/kernels/extract-vmlinux.py" "$image" "$new/vmlinux"
	mv "$modules" "$new/modroot/lib/modules/"
	depmod -b "$new/modroot" "$release"
	make_initrd "$new/modroot" "$release" "$new/initrd"
	echo "$suite" >"$new/suite"
	echo "$release" >"$new/release"
	rm -rf "$1"
	mv "$new" "$1"
}

[ $# = 2 ] || die "usage: kernels-fetch.sh SERIES DIR"
series=$1 dir=$(realpath -m "$2")
mkdir -p "$(dirname "$dir")"
if [ -s "$dir/release" ]; then
	exit 0
fi
suite=${KERNEL_SUITE:-$(suite_of "$series")}
work=$dir.apt
rm -rf "$work"
write_apt_conf "$work"
archive_candidates "$work/candidates"
[ -n "$(ls "$work/candidates")" ] || die "no apt source here is Debian's main archive"
printf '  %-8s %s\n' FETCH "Linux $series from Debian's suite $suite"
update_from "$suite"
package=$(newest_package "$series")
[ -n "$package" ] || die "suite $suite has no Linux $series (its $META is another): the table in scripts/kernels-fetch.sh is out of date"
mkdir -p "$work/got"
(cd "$work/got" && with_parts "$package" | xargs apt-get -c "$work/apt.conf" -qq download) >>"$work/log" 2>&1 ||
	die "$package could not be downloaded, see $work/log"
unpack "$dir" "$package"
rm -rf "$work"
