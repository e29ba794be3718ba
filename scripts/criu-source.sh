#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Fetches, unpacks and patches the CRIU release named in criu-patches/BASE.
#
#   criu-source.sh fetch DLDIR      leave the checked release tarball in DLDIR
#   criu-source.sh tree DLDIR DIR   leave a pristine tree in DIR, fetching if need be
#   criu-source.sh patch DIR        apply criu-patches/*.patch to DIR
#   criu-source.sh release DIR      say which release the tree DIR is of
#
# With CRIU_SRC=<tree> in the environment, `tree` copies that tree (and only
# reads it) in place of the tarball. No archive host is named here: the address
# and the keys are those of this machine's own apt sources.
set -euo pipefail
export LC_ALL=C

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
series=$top/criu-patches
# shellcheck source=debian-archive.sh
. "$top/scripts/debian-archive.sh"

say()
{
	printf '  %-8s %s\n' "$1" "$2"
}

die()
{
	printf 'criu-source: %s\n' "$@" >&2
	exit 1
}

# base KEY: a field of criu-patches/BASE.
base()
{
	awk -v key="$1" '$1 == key { print $2 }' "$series/BASE"
}

# Both ways to get the source, said once, wherever it was that the first failed.
die_no_source()
{
	die "the source of CRIU $(base version) could not be had: $1." \
	    "Either give this machine access to Debian's archive, which its apt sources must name," \
	    "or build from a source tree of that release: make CRIU_SRC=/path/to/criu-$(base version)"
}

tarball_is_good()
{
	[ -f "$1" ] && printf '%s  %s\n' "$(base sha256)" "$1" | sha256sum --check --status
}

# fetch_from WORK SOURCES SUITE: download the tarball to WORK/got. Any Debian
# revision of the release will do, its original tarball is the same. apt checks
# it against the archive's signed index.
fetch_from()
{
	local work=$1 revision package

	package=$(base package)
	archive_sources "$2" deb-src "$3" >"$work/sources.d/archive.sources"
	echo "== $3, $(grep ^URIs "$2")"
	apt-get -c "$work/apt.conf" -qq update || return 1
	revision=$(apt-cache -c "$work/apt.conf" showsrc --only-source "$package" |
		awk -v want="$(base version)-" '$1 == "Version:" && index($2, want) == 1 { print $2; exit }') || return 1
	if [ -z "$revision" ]; then
		echo "suite $3 has no $package $(base version)"
		return 1
	fi
	mkdir -p "$work/got"
	(cd "$work/got" && apt-get -c "$work/apt.conf" -qq source --tar-only "$package=$revision")
}

fetch_from_any()
{
	local work=$1 sources suite

	for suite in sid forky; do
		for sources in "$work"/candidates/*.sources; do
			if fetch_from "$work" "$sources" "$suite" >>"$work/log" 2>&1; then
				return 0
			fi
		done
	done
	return 1
}

cmd_fetch()
{
	local dl work tarball

	mkdir -p "$1"
	dl=$(cd "$1" && pwd)
	tarball=$(base tarball)
	if tarball_is_good "$dl/$tarball"; then
		return 0
	fi
	command -v apt-get >/dev/null || die_no_source "there is no apt-get here"
	say FETCH "$tarball from Debian's archive"
	work=$dl/apt
	rm -rf "$work"
	write_apt_conf "$work"
	archive_candidates "$work/candidates"
	[ -n "$(ls "$work/candidates")" ] || die_no_source "no apt source here is Debian's main archive"
	fetch_from_any "$work" || die_no_source "apt could not download it, see $work/log"
	tarball_is_good "$work/got/$tarball" ||
		die_no_source "$work/got/$tarball is missing or has not the checksum in criu-patches/BASE"
	mv "$work/got/$tarball" "$dl/$tarball"
	rm -rf "$work"
}

cmd_release()
{
	[ -f "$1/Makefile.versions" ] || die "CRIU_SRC=$1 is no CRIU source tree: it has no Makefile.versions"
	# shellcheck disable=SC2016 # make expands it
	printf 'include %s\nprint:\n\t@echo $(CRIU_VERSION)\n' "$1/Makefile.versions" |
		env -u MAKEFLAGS -u MAKELEVEL make -s -f - print
}

# copy_own_tree SRC DIR: a tree as released, whatever was built in SRC.
copy_own_tree()
{
	local release

	release=$(cmd_release "$1") || exit 1
	[ "$release" = "$(base version)" ] ||
		die "CRIU_SRC=$1 is CRIU $release, the patches are for CRIU $(base version)"
	tar -C "$1" --exclude=./.git -cf - . | tar -C "$2" -xf -
	env -u MAKEFLAGS -u MAKELEVEL -u CFLAGS make -s -C "$2" PYTHON=: mrproper >"$2.log" 2>&1 ||
		die "make mrproper failed in the copy of $1, see $2.log"
	rm -f "$2.log"
}

cmd_tree()
{
	local dl=$1 dir=$2

	rm -rf "$dir"
	mkdir -p "$dir"
	if [ -n "${CRIU_SRC:-}" ]; then
		copy_own_tree "$CRIU_SRC" "$dir"
	else
		cmd_fetch "$dl"
		tar -C "$dir" --strip-components=1 --no-same-owner -xf "$dl/$(base tarball)"
	fi
}

# No fuzz: a hunk that only nearly fits is one nobody has looked at. patch(1),
# for `git apply` skips what is ignored by a git tree around it.
cmd_patch()
{
	local file out

	for file in "$series"/*.patch; do
		[ -e "$file" ] || continue
		say PATCH "${file##*/}"
		out=$(patch -d "$1" -p1 -F0 --force --no-backup-if-mismatch <"$file") ||
			die "${file##*/} does not apply:" "$out"
	done
}

case "${1:-} $#" in
"fetch 2") cmd_fetch "$2" ;;
"tree 3") cmd_tree "$2" "$3" ;;
"patch 2") cmd_patch "$2" ;;
"release 2") cmd_release "$2" ;;
*) die "usage: criu-source.sh fetch DLDIR | tree DLDIR DIR | patch DIR | release DIR" ;;
esac
