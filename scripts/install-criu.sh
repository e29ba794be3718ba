#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
#   install-criu.sh check TARGET          may TARGET be replaced?
#   install-criu.sh install CRIU TARGET
#   install-criu.sh uninstall TARGET
#
# The patched criu has the name of the distribution's. What is in its place and not ours is left there, unless FORCE=1 is
# in the environment: then it is kept beside it, and uninstall gives it back.
set -euo pipefail

# kept TARGET: where what was there before is kept.
kept()
{
	printf '%s.before-wptrack' "$1"
}

exists()
{
	[ -e "$1" ] || [ -L "$1" ]
}

# is_ours FILE: a criu with our patches exports this to plugins.
is_ours()
{
	[ -f "$1" ] && [ ! -L "$1" ] && grep -qaF cr_mem_track_abi "$1"
}

check()
{
	exists "$1" && ! is_ours "$1" || return 0
	if [ "${FORCE:-}" != 1 ]; then
		echo "install: $1 is there and not ours. PREFIX=/usr/local leaves it alone; FORCE=1 replaces it, keeps it as" >&2
		echo "install: $(kept "$1"), and make uninstall gives it back. Nothing has been installed" >&2
		return 1
	fi
	if [ -d "$1" ] && [ ! -L "$1" ]; then
		echo "install: $1 is a directory" >&2
		return 1
	fi
}

install_criu()
{
	local new=$2.wptrack-new old=''

	check "$2"
	install -D -m 755 "$1" "$new"
	if exists "$2" && ! is_ours "$2"; then
		old=$(kept "$2")
		mv -fT "$2" "$old"
		echo "install: what was $2 is $old now"
	fi
	if ! mv -fT "$new" "$2"; then
		[ -z "$old" ] || mv -fT "$old" "$2"
		rm -f "$new"
		return 1
	fi
}

uninstall_criu()
{
	local old

	old=$(kept "$1")
	if exists "$1" && ! is_ours "$1"; then
		echo "uninstall: $1 is not ours any more, and stays" >&2
		! exists "$old" || echo "uninstall: so does $old, which was there before" >&2
		return
	fi
	if exists "$old"; then
		mv -fT "$old" "$1"
		echo "uninstall: $1 is what it was before"
	else
		rm -f "$1"
	fi
}

case ${1:-}:$# in
check:2) check "$2" ;;
install:3) install_criu "$2" "$3" ;;
uninstall:2) uninstall_criu "$2" ;;
*)
	sed -n '4,6s/^# *//p' "$0" >&2
	exit 2
	;;
esac
